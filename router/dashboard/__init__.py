"""The dashboard: prebuilt static files, served with the headers that make them safe and cheap to cache.

``web/`` is the Vite source, ``static/`` its build output, kept in git and packed in the wheel, so that nobody needs
Node to run it. The files are few and small: they are read and compressed once, when first mounted, and served from
memory under exactly their own names, so no request ever becomes a path on disk. Names under ``assets/`` carry a hash of
their content and are immutable; everything else is revalidated on each use.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request, Response

STATIC = Path(__file__).parent / "static"
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
COMPRESSIBLE = ("text/", "application/javascript", "application/json", "image/svg+xml")

# Scripts, styles and data come from this origin alone; nothing may frame the page or post a form from it.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types svelte-trusted-html",
    )
)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the build, ready to send: as it is, and compressed where that helps."""

    body: bytes
    compressed: bytes | None
    media_type: str
    etag: str
    cache_control: str


def load(folder: Path = STATIC) -> dict[str, StaticFile]:
    """Read the build output into a mapping of URL path to file; raises ``FileNotFoundError`` if it was never built."""
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"{folder} holds no built dashboard; build it with `make web`")
    files = {f"/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*")) if path.is_file()}
    loaded = {url: _load_file(url, path) for url, path in files.items()}
    return {"/": loaded.pop("/index.html"), **loaded}


@cache
def _built() -> dict[str, StaticFile]:
    return load()  # once per process: compressing it takes longer than all else that puts a control plane together


def mount(app: FastAPI) -> None:
    """Serve the dashboard at ``/``, outside the OpenAPI document."""
    for url, file in _built().items():
        app.add_api_route(url, _endpoint(file), methods=["GET", "HEAD"], include_in_schema=False)


def _load_file(url: str, path: Path) -> StaticFile:
    body = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    media_type = "text/javascript" if path.suffix == ".js" else media_type  # some systems' tables still say otherwise
    squeezed = gzip.compress(body, mtime=0) if media_type.startswith(COMPRESSIBLE) else None
    return StaticFile(
        body=body,
        compressed=squeezed if squeezed is not None and len(squeezed) < len(body) else None,
        media_type=media_type,
        etag=f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"',
        cache_control=IMMUTABLE if url.startswith("/assets/") else REVALIDATE,
    )


def _endpoint(file: StaticFile) -> Callable[[Request], Awaitable[Response]]:
    common = {**SECURITY_HEADERS, "etag": file.etag, "cache-control": file.cache_control, "vary": "accept-encoding"}

    async def serve(request: Request) -> Response:
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=common)
        if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers = {**common, "content-encoding": "gzip"}
            return Response(file.compressed, headers=headers, media_type=file.media_type)
        return Response(file.body, headers=common, media_type=file.media_type)

    return serve
