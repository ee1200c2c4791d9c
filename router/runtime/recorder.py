"""Flight recorder: a ring of files with every ``(now, input)``, and its replay into a fresh core.

A segment starts with the core's whole state, so that replay may begin at any segment that the ring still has.
``Solved`` is recorded by its generation only: replay solves the pending snapshot again, which is deterministic. Every
record carries the running digest of decisions and reasons; replay that meets a different digest has found
nondeterminism.

Records are pickles in a gzip stream, read back by an unpickler that admits only the core's own types and numpy arrays.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from router.core.digest import fold
from router.core.messages import Effect, Input, Solve, Solved
from router.core.model import Micros
from router.core.plane import ControlPlane
from router.core.solve import solve

FORMAT = 2
SEGMENTS = 4
_ALLOWED_MODULES = ("router.core.", "probes.wire")
_ALLOWED_NAMES = {
    (__name__, "SolvedAgain"),
    ("collections", "deque"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


@dataclass(frozen=True, slots=True)
class SolvedAgain:
    """Stands for ``Solved``: replay computes the candidate of this generation itself."""

    generation: int


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay: how many inputs, the final digest, and where it first differed, if it did."""

    inputs: int
    digest: str
    recorded_digest: str
    diverged_at: int | None
    generation: int


class FlightRecorder:
    """Appends to the newest segment of a ring under ``folder``; ``limit_bytes`` bounds the whole ring."""

    def __init__(self, folder: Path, limit_bytes: int = 64_000_000) -> None:
        self._folder = folder
        self._limit = max(1, limit_bytes // SEGMENTS)
        self._file: gzip.GzipFile | None = None
        self._raw: IO[bytes] | None = None
        self._digest = b""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(p.stem.rpartition("-")[2]) for p in segments(folder)]
        self._number = max(numbers, default=0)

    def record(self, plane: ControlPlane, event: Input, now: Micros, effects: list[Effect]) -> None:
        """Note one handled input and what it led to."""
        if self._file is None or self._raw is None or self._raw.tell() > self._limit:
            self._rotate(plane)
            return  # the checkpoint already contains this input's outcome
        self._digest = fold(self._digest, effects, plane.view)
        kept: Input | SolvedAgain = SolvedAgain(event.candidate.generation) if isinstance(event, Solved) else event
        pickle.dump((now, kept, self._digest), self._file, protocol=5)

    def flush(self) -> None:
        """Hand buffered records to the operating system."""
        if self._file is not None and self._raw is not None:
            self._file.flush()
            self._raw.flush()

    def close(self) -> None:
        """Close the segment."""
        if self._file is not None and self._raw is not None:
            self._file.close()
            self._raw.close()
            self._file = self._raw = None

    def abandon(self) -> None:
        """After an error: give the segment up; the next record starts another one with the core's whole state."""
        files: tuple[IO[bytes] | gzip.GzipFile | None, ...] = (self._file, self._raw)
        self._file = self._raw = None
        for file in files:
            if file is not None:
                with suppress(OSError):  # what is lost was to be recorded on a disk that does not take it
                    file.close()

    def _rotate(self, plane: ControlPlane) -> None:
        self.close()
        self._number += 1
        path = self._folder / f"flight-{self._number:08d}.rec"
        self._raw = path.open("wb", buffering=1 << 16)
        self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=1)  # reports repeat themselves
        self._digest = b""
        pickle.dump({"format": FORMAT, "plane": plane}, self._file, protocol=5)
        for old in segments(self._folder)[:-SEGMENTS]:
            old.unlink()


def segments(folder: Path) -> list[Path]:
    """Segments of a ring, oldest first."""
    return sorted(folder.glob("flight-*.rec"))


def replay(path: Path) -> Replay:
    """Run a segment again. Raises ``ValueError`` if the file is not a segment of this version."""
    records = _read(path)
    head = next(records, None)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"{path} is not a flight recorder segment of format {FORMAT}")
    plane: ControlPlane = head["plane"]
    digest, recorded, count, diverged = b"", b"", 0, None
    pending = plane.pending_snapshot
    for now, kept, recorded in records:
        event: Input
        if isinstance(kept, SolvedAgain):
            if pending is None or pending.generation != kept.generation:
                raise ValueError(f"{path}: record {count} answers generation {kept.generation}, which nobody asked for")
            event = Solved(solve(pending))
        else:
            event = kept
        effects = plane.handle(event, now)
        for effect in effects:
            if isinstance(effect, Solve):
                pending = effect.snapshot
        digest = fold(digest, effects, plane.view)
        count += 1
        if digest != recorded and diverged is None:
            diverged = count
    return Replay(count, digest.hex(), recorded.hex(), diverged, plane.view.generation)


def _read(path: Path) -> Iterator[Any]:
    try:
        # Not gzip.open: of a segment that a crash cut short it would give nothing at all.
        file = io.BytesIO(zlib.decompressobj(wbits=31).decompress(path.read_bytes()))
    except zlib.error as error:
        raise ValueError(f"{path} is not a flight recorder segment: {error}") from error
    while True:
        try:
            yield _Unpickler(file).load()
        except EOFError:
            return
        except pickle.UnpicklingError as error:
            if "truncated" in str(error):
                return  # the process died while writing its last record
            raise ValueError(f"{path}: {error}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Admit the core's types and numpy's; anything else in a flight file is an attack or a mistake."""
        if (module, name) == ("builtins", "getattr"):
            return _enum_member  # how some versions of Python pickle members of an enumeration
        if (module, name) in _ALLOWED_NAMES:
            return super().find_class(module, name)
        if module.startswith(_ALLOWED_MODULES) and "." not in name:  # a dotted name would reach what a module imports
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a flight recorder file")


def _enum_member(cls: object, name: str) -> object:
    if not (isinstance(cls, type) and issubclass(cls, Enum)) or name not in cls.__members__:
        raise pickle.UnpicklingError(f"{cls}.{name} has no place in a flight recorder file")
    return cls[name]
