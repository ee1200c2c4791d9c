"""Documentation that cannot rot: links lead somewhere, commands exist, every page is reachable, nothing leaks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
KINDS = (".md", ".txt", ".json", ".toml", ".npmrc", ".yaml")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [
        t for t in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t and not t.startswith("mailto:")
    ]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert missing == []


def test_every_page_is_reachable_from_the_index() -> None:
    seen: set[Path] = set()
    queue = [ROOT / "README.md", ROOT / "docs/index.md"]
    while queue:
        page = queue.pop().resolve()
        if page in seen:
            continue
        seen.add(page)
        if page.suffix == ".md":
            queue += [page.parent / t for t in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t]
        elif page.is_dir():
            queue += list(page.glob("*.md"))
    lost = [str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md") if p.resolve() not in seen]
    assert lost == []


def test_commands_in_the_guides_exist() -> None:
    reference = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^#{2,3} `tendril ([a-z -]+)`", reference, re.M)) | {
        "agent run",
        "agent reflect",
        "agent once",
    }
    used = set()
    for page in PAGES:
        for command in re.findall(r"(?:^|`)(?:\$ )?tendril ([a-z][a-z -]*)", page.read_text(encoding="utf-8"), re.M):
            words = command.split()
            used.add(" ".join(words[:2]) if " ".join(words[:2]) in known else words[0])
    heads = {k.split()[0] for k in known}
    assert {u for u in used if u not in known and u not in heads} == set()
    assert len(used) > 10


def test_every_adr_is_numbered_and_has_a_status() -> None:
    adrs = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [p.name[:4] for p in adrs] == [f"{i:04d}" for i in range(1, len(adrs) + 1)]
    for page in adrs:
        text = page.read_text(encoding="utf-8")
        assert "Status: " in text and "**Decision.**" in text and "**Consequences.**" in text


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_lock_files_and_docs_name_no_package_host() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|npmjs\.org|deb\.debian", re.I)
    guilty = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace") if path.suffix in KINDS else ""
        if hosts.search(text):
            guilty.append(str(path.relative_to(ROOT)))
    assert guilty == []


def test_house_style_limits_hold() -> None:
    long = [
        f"{p.relative_to(ROOT)}: {n}"
        for p in tracked()
        if p.suffix in (".py", ".ts", ".svelte", ".css") and "static" not in p.parts
        and (n := p.read_text(encoding="utf-8").count("\n")) > 600
    ]  # fmt: skip
    assert long == []
