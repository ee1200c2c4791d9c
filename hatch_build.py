"""Build hook: compiles the optional C kernel when its source and a compiler are there, else ships pure Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("router/core/_kernel.c")
REQUIRE = "TENDRIL_REQUIRE_KERNEL"  # CI sets it, so that a broken C file cannot hide behind the fallback


class KernelHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Runs setuptools' ``build_ext`` in place; a failure means a pure wheel unless REQUIRE is set."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernel into the tree and mark the wheel as platform-specific when that worked."""
        if not (Path(self.root) / SOURCE).exists():
            return
        try:
            self._compile()
        except (Exception, SystemExit) as error:
            if os.environ.get(REQUIRE):
                raise
            print(f"tendril: C kernel not built ({error}); the numpy fallback gives the same answers", file=sys.stderr)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _compile(self) -> None:
        from setuptools import Distribution, Extension

        module = ".".join(SOURCE.with_suffix("").parts)
        flags = ["-std=c11", "-O3", "-pthread", "-fno-strict-aliasing", "-Wall", "-Wextra"]
        headers = [str(path) for path in sorted(SOURCE.parent.glob("_kernel_*.h"))]
        extension = Extension(
            module, [str(SOURCE)], depends=headers, extra_compile_args=flags, extra_link_args=["-pthread"]
        )
        command = Distribution({"name": "tendril", "ext_modules": [extension]}).get_command_obj("build_ext")
        command.inplace = 1  # type: ignore[union-attr]
        command.ensure_finalized()
        command.run()
