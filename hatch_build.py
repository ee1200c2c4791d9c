"""Build hook: compiles the optional C parts when their sources and a compiler are there, else ships pure Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = [
    Path("router/core/_kernel.c"),
    Path("router/core/_evidence.c"),
    Path("probes/_hot.c"),
    Path("probes/_report.c"),
]
if sys.platform == "linux":
    SOURCES.append(Path("probes/sockets/_batch.c"))  # recvmmsg and its ancillary data are Linux's
REQUIRE = "TENDRIL_REQUIRE_KERNEL"  # CI sets it, so that a broken C file cannot hide behind the fallback


class KernelHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Runs setuptools' ``build_ext`` in place; a failure means a pure wheel unless REQUIRE is set."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the tree what can be, and mark the wheel as platform-specific when something was."""
        for source in SOURCES:
            if not (Path(self.root) / source).exists():
                continue
            try:
                self._compile(source)
            except (Exception, SystemExit) as error:
                if os.environ.get(REQUIRE):
                    raise
                print(f"tendril: {source} not built ({error}); its Python form does the same", file=sys.stderr)
                continue
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def _compile(self, source: Path) -> None:
        from setuptools import Distribution, Extension

        module = ".".join(source.with_suffix("").parts)
        flags = ["-std=c11", "-O3", "-pthread", "-fno-strict-aliasing", "-Wall", "-Wextra"]
        headers = [str(path) for path in sorted(source.parent.glob(f"{source.stem}_*.h"))]
        extension = Extension(
            module, [str(source)], depends=headers, extra_compile_args=flags, extra_link_args=["-pthread"]
        )
        command = Distribution({"name": "tendril", "ext_modules": [extension]}).get_command_obj("build_ext")
        command.inplace = 1  # type: ignore[union-attr]
        command.ensure_finalized()
        command.run()
