"""The C parts under AddressSanitizer and UndefinedBehaviorSanitizer, with the tests that feed them odd input."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = """
import importlib.machinery, importlib.util, os, sys
from pathlib import Path

class Finder:
    def find_spec(self, name, path=None, target=None):
        built = Path(os.environ["TENDRIL_SANITIZED"]) / f"{name}.so"
        if not built.exists():
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, str(built))
        return importlib.util.spec_from_file_location(name, built, loader=loader)

sys.meta_path.insert(0, Finder())

def pytest_sessionfinish(session):
    # Every part was really loaded, and from there.
    for built in Path(os.environ["TENDRIL_SANITIZED"]).glob("*.so"):
        module = sys.modules.get(built.stem)
        assert module is not None and module.__file__ == str(built), f"{built.stem} was not used"
"""
FED = {
    "probes": [
        "test_compiled.py", "test_fuzz.py", "test_loop.py", "test_sockets.py", "test_sockets_stamps.py",
        "test_relay_sealed.py", "test_read_report.py",
    ],
    "core": ["test_kernel.py", "test_kernel_engines.py", "test_kernel_incremental.py", "test_evidence_compiled.py"],
}  # fmt: skip
FLAGS = ["-std=c11", "-O1", "-g", "-pthread", "-fno-strict-aliasing", "-fno-omit-frame-pointer",
         "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared", "-fPIC"]  # fmt: skip


def sources() -> list[Path]:
    """What the wheel compiles."""
    return [Path(found) for found in re.findall(r'Path\("([^"]+\.c)"\)', (ROOT / "hatch_build.py").read_text("utf-8"))]


def sanitizer(compiler: str) -> Path:
    """The library that has to be loaded first."""
    told = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip())


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted(FED))
def test_nothing_is_read_or_written_out_of_bounds(part: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None or not sanitizer(compiler).is_absolute():
        pytest.skip("no gcc with AddressSanitizer on this machine")
    folder = {"probes": Path("probes"), "core": Path("router/core")}[part]
    mine = [source for source in sources() if source.is_relative_to(folder)]
    assert mine
    for source in mine:
        module = ".".join(source.with_suffix("").parts)
        include = sysconfig.get_paths()["include"]
        command = [compiler, *FLAGS, f"-I{include}", str(ROOT / source), "-o", str(tmp_path / f"{module}.so"), "-lm"]
        subprocess.run(command, check=True)
    (tmp_path / "sanitized_guide.py").write_text(GUIDE, encoding="utf-8")
    environment = os.environ | {
        "TENDRIL_SANITIZED": str(tmp_path),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        "PYTHONMALLOC": "malloc",  # Python's own blocks would hide a step beyond their end
        "LD_PRELOAD": str(sanitizer(compiler)),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it has at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    files = [str(ROOT / "tests" / "unit" / part / name) for name in FED[part]]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "sanitized_guide", "-m", "not slow", *files],
        env=environment, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1_000:] + done.stderr[-6_000:]
