"""``make_mirror.py FOLDER [--packed]``: a filesystem mirror with the provider, and a configuration that uses it.

Unpacked (a link to the console script) it serves the machine that made it. ``--packed`` writes the zip that other
machines may take: it holds one executable Python archive with everything the provider needs besides Python itself.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

PROVIDER = Path(__file__).parents[1] / "provider"
ADDRESS, VERSION, PLATFORM = "tendril.example/tendril/tendril", "0.1.0", "linux_amd64"
NAME = "terraform-provider-tendril"
LAUNCHER = """#!/bin/sh
# A zip of Python packages with compiled parts: unpacked once per version, then started from there.
set -eu
home="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/NAME-VERSION"
if [ ! -e "$home/.whole" ]; then
  mkdir -p "$(dirname "$home")"
  new=$(mktemp -d "$home.XXXXXX")
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' "$0" "$new"
  python3 -m compileall -q "$new" || true
  touch "$new/.whole"
  mv -T "$new" "$home" 2>/dev/null || rm -rf "$new"
fi
PYTHONPATH="$home" PYTHONSAFEPATH=1 exec python3 -m tendril_terraform.main "$@"
"""


def unpacked(mirror: Path) -> None:
    """A link to the console script in its own environment."""
    place = mirror / ADDRESS / VERSION / PLATFORM
    place.mkdir(parents=True, exist_ok=True)
    link = place / f"{NAME}_v{VERSION}"
    link.unlink(missing_ok=True)
    link.symlink_to(PROVIDER / f".venv/bin/{NAME}")


def packed(mirror: Path) -> None:
    """The zip that Terraform knows how to install."""
    with tempfile.TemporaryDirectory() as folder:
        site = next((PROVIDER / ".venv/lib").glob("python3*/site-packages"))
        archive = Path(folder) / "packages.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for path in sorted([*_needed(site), *(PROVIDER / "tendril_terraform").rglob("*")]):
                root = PROVIDER if path.is_relative_to(PROVIDER / "tendril_terraform") else site
                if path.is_file() and "__pycache__" not in path.parts:
                    out.write(path, path.relative_to(root))
        text = LAUNCHER.replace("NAME-VERSION", f"{NAME}-{VERSION}").encode()
        place = mirror / ADDRESS
        place.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(place / f"{NAME}_{VERSION}_{PLATFORM}.zip", "w", zipfile.ZIP_DEFLATED) as out:
            entry = zipfile.ZipInfo(f"{NAME}_v{VERSION}")
            entry.external_attr = 0o100755 << 16
            out.writestr(entry, text + archive.read_bytes())


def _needed(site: Path) -> list[Path]:
    """What runs; not what builds."""
    wanted = ("tf", "grpc", "google", "cryptography", "msgpack", "cffi")
    found = [path for name in wanted for path in (site / name).rglob("*")]
    return [*found, *site.glob("_cffi_backend*"), site / "typing_extensions.py"]


def main() -> None:
    """The command."""
    folder = Path(sys.argv[1]).resolve()
    mirror = folder / "mirror"
    if "--packed" in sys.argv:
        shutil.rmtree(mirror / ADDRESS / VERSION, ignore_errors=True)
        packed(mirror)
    else:
        unpacked(mirror)
    rest = '  direct {\n    exclude = ["tendril.example/*/*"]\n  }\n'
    ours = f'  filesystem_mirror {{\n    path    = "{mirror}"\n    include = ["tendril.example/*/*"]\n  }}\n'
    (folder / "terraform.rc").write_text(f"provider_installation {{\n{ours}{rest}}}\n", encoding="utf-8")
    print(f"export TF_CLI_CONFIG_FILE={folder / 'terraform.rc'}")


if __name__ == "__main__":
    main()
