"""The dashboard with 300 data centers in a headless browser: first paint, bytes, frames per second of the matrix.

A real control plane, a node with a key for each data center, and reports of every pair that go on while the page is
measured. ``make bench NAME=dashboard``; how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from bench._case import line, progress
from bench.freshness.served import ADMIN_KEY, Served, serving
from bench.freshness.world import World
from router.api.browsers import COOKIE

SIZE = 300
LOADS = 5
WATCH_S = 12  # the page asks for a new matrix every 5 s: two of them fall into it
PATIENCE_MS = 60_000
VIEWPORT = (1440, 900)
PAUSE_S = 0.1  # between two reports of all 299 links of a node: the matrix moves, and the server does little else
# Notes when the page first shows its shell, and when it first shows every data center and a verdict: after the frame
# in which they were drawn.
SEEN = """(() => {
  const seen = (window.seen = {})
  const look = () => {
    const verdict = document.querySelector('[data-testid=verdict]')
    const marks = document.querySelectorAll('.mark').length
    if (verdict && !seen.shell) requestAnimationFrame(() => (seen.shell ??= performance.now()))
    if (marks >= SIZE && !verdict.textContent.includes('Loading'))
      requestAnimationFrame(() => setTimeout(() => {
        seen.overview = performance.now()
        document.documentElement.dataset.seen = 'all'
      }))
    else requestAnimationFrame(look)
  }
  requestAnimationFrame(look)
})()""".replace("SIZE", str(SIZE))
SIZES = """['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
  .filter(e => e.responseStart <= seen.overview).map(e => [e.name, e.encodedBodySize])"""
OWN_FILES = """['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
  .filter(e => !e.name.includes('/v1/')).reduce((sum, e) => sum + e.encodedBodySize, 0)"""
WHOLE = "performance.getEntriesByType('resource').some(e => e.name.includes('/pages-') && e.name.endsWith('.js'))"
# Scrolls the page and the matrix and moves the pointer over the cells in every frame, and notes when frames began.
FRAMES = """async seconds => {
  const scroll = document.querySelector('.matrix-scroll'), cells = document.querySelector('[data-testid=cells]')
  const page = document.querySelector('.page'), began = [], start = performance.now()
  let moved = 0, at = -1, answers = 0
  const count = () => performance.getEntriesByType('resource').filter(e => e.name.includes('/v1/matrix')).length
  const before = count()
  await new Promise(done => {
    const frame = now => {
      began.push(now)
      const t = (now - start) / 1000
      scroll.scrollLeft = 200 * (1 + Math.sin(t)); scroll.scrollTop = 200 * (1 + Math.cos(t))
      page.scrollTop = 150 * (1 + Math.sin(2 * t))
      if (at !== page.scrollTop) moved += 1
      at = page.scrollTop
      const box = cells.getBoundingClientRect()
      cells.dispatchEvent(new PointerEvent('pointermove', { bubbles: true,
        clientX: box.left + 10 + (began.length * 7) % (box.width - 20),
        clientY: box.top + 10 + (began.length * 3) % 300 }))
      t < seconds ? requestAnimationFrame(frame) : done()
    }
    requestAnimationFrame(frame)
  })
  return { began, moved, updates: count() - before }
}"""


def main() -> bool:
    """Run all cases; whether every bound was met."""
    path = shutil.which("chromium")
    if path is None:
        print("bench dashboard needs Chromium (Debian package chromium)", file=sys.stderr)
        return False
    progress(f"a control plane with {SIZE} data centers")
    with serving(World(SIZE)) as served, sync_playwright() as playwright:
        served.warm_up()
        flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        url = f"http://127.0.0.1:{served.port}"
        cookie = httpx.post(f"{url}/v1/sign-in", json={"key": ADMIN_KEY}, timeout=10).cookies[COOKIE]
        with _reporting(served):
            met = _first_paint(browser, url, cookie)
            met &= _frames(_signed_in(browser, url, cookie), url)
        browser.close()
    return met


@contextmanager
def _reporting(served: Served) -> Iterator[None]:
    """Let one node after the other report all of its links, for as long as the page is looked at."""
    over = threading.Event()

    def work() -> None:
        connection, world = served.connect(), served.world
        while not over.is_set():
            for source in range(world.n):
                connection.call(served.posted(source, world.peers(source, world.n)))
                if over.wait(PAUSE_S):
                    break
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        reporting = pool.submit(work)
        try:
            yield
        finally:
            over.set()
            reporting.result()


def _signed_in(browser: Browser, url: str, cookie: str) -> Page:
    width, height = VIEWPORT
    context = browser.new_context(viewport={"width": width, "height": height})
    context.add_cookies([{"name": COOKIE, "value": cookie, "url": url}])
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def _first_paint(browser: Browser, url: str, cookie: str) -> bool:
    progress("first paint")
    shells, overviews, sizes, whole = [], [], dict[str, int](), 0
    for _ in range(LOADS):  # each in a context of its own: nothing is cached
        page = _signed_in(browser, url, cookie)
        page.add_init_script(SEEN)
        page.goto(f"{url}/#/")
        page.wait_for_selector("html[data-seen]", state="attached")
        seen = page.evaluate("window.seen")
        shells.append(round(seen["shell"]))
        overviews.append(round(seen["overview"]))
        sizes = dict(page.evaluate(SIZES))
        page.wait_for_function(WHOLE)  # the code of all other screens, fetched in one piece after the overview
        whole = page.evaluate(OWN_FILES)
        page.context.close()
    case = f"first paint of the overview: all {SIZE} data centers and the verdict"
    more = {"runs": overviews, "frame_and_header_ms": shells}
    met = line("dashboard", case, min(overviews), 1_000, "bound", "ms", "U5", 1.0, **more)
    asked = [name for name in sizes if "/v1/" in name]
    own = sum(size for name, size in sizes.items() if name not in asked)
    case = "transfer until the overview stands, compressed, empty cache"
    answers = sum(sizes[name] for name in asked)
    more = {"page_bytes": own, "answers": len(asked), "answer_bytes": answers, "page_bytes_all_screens": whole}
    return line("dashboard", case, sum(sizes.values()), 200_000, "bound", "bytes", "U5", 1.0, **more) and met


def _frames(page: Page, url: str) -> bool:
    progress("the matrix")
    page.goto(f"{url}/#/matrix")
    page.wait_for_selector("[data-testid=cells] canvas")
    page.locator(".beside-matrix li .num").first.wait_for()
    time.sleep(2)  # fonts, first layout and compilation are over
    seen = page.evaluate(FRAMES, WATCH_S)
    began = seen["began"]
    gaps = [b - a for a, b in pairwise(began)]
    seconds = range(WATCH_S - 1)
    frames = [sum(began[0] + 1000 * s <= at < began[0] + 1000 * (s + 1) for at in began) for s in seconds]
    return line(
        "dashboard",
        f"matrix of {SIZE} x {SIZE}, scrolled, pointed at and updated: the worst second",
        min(frames),
        30,
        "bound",
        "frames/s",
        "U5",
        1.0,
        mean=round(1000 * len(gaps) / sum(gaps), 1),
        longest_ms=round(max(gaps)),
        updates=seen["updates"],
        scrolled_frames=seen["moved"],
    )
