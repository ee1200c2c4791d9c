"""Flight recorder: a ring of files with every ``(now, input)``, and its replay into a fresh core.

A segment starts with the core's whole state, so that replay may begin at any segment that the ring still has.
Results of long computations are recorded by their number only: replay computes them again, deterministically. Reports,
by far the most, are packed (``packed``). Every record carries the running digest of decisions and reasons; replay that
meets a different digest has found nondeterminism.

Records are pickles in a gzip stream, read back by an unpickler that admits only the core's own types and numpy arrays.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from router.core.digest import fold
from router.core.messages import ClientsFitted, Effect, Input, Judged, JudgeFailed, Reported, Solved, Surveyed
from router.core.model import Micros
from router.core.plane import ControlPlane
from router.core.tables import View
from router.runtime.packed import PackedReport, Packer, Unpacker

FORMAT = 6
SEGMENTS = 4
_ALLOWED_MODULES = ("router.core.", "probes.wire")
_ALLOWED_NAMES = {
    (__name__, "SolvedAgain"),
    (__name__, "SurveyedAgain"),
    (__name__, "FittedAgain"),
    (__name__, "JudgedAgain"),
    ("router.runtime.packed", "PackedReport"),
    ("collections", "deque"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


@dataclass(frozen=True, slots=True)
class SolvedAgain:
    """Stands for ``Solved``: replay computes the answer of this generation itself."""

    generation: int


@dataclass(frozen=True, slots=True)
class SurveyedAgain:
    """Stands for ``Surveyed``: replay makes the survey of this number itself."""

    number: int


@dataclass(frozen=True, slots=True)
class FittedAgain:
    """Stands for ``ClientsFitted``: replay learns from the client networks itself."""

    number: int


@dataclass(frozen=True, slots=True)
class JudgedAgain:
    """Stands for ``Judged``: replay judges the case of this number itself."""

    number: int


Again = SolvedAgain | SurveyedAgain | FittedAgain | JudgedAgain


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay: how many inputs, the final digest, and where it first differed, if it did."""

    inputs: int
    digest: str
    recorded_digest: str
    diverged_at: int | None
    generation: int


class FlightRecorder:
    """Appends to the newest segment of a ring under ``folder``; ``limit_bytes`` bounds the whole ring.

    Unless the state of the core, with which each segment begins, is so large that two of them do not fit in.
    """

    def __init__(self, folder: Path, limit_bytes: int = 64_000_000) -> None:
        self._folder = folder
        self._limit = max(1, limit_bytes // SEGMENTS)
        self._file: gzip.GzipFile | None = None
        self._raw: IO[bytes] | None = None
        self._digest, self._packer = b"", Packer()
        self._written = self._state_bytes = 0  # of this segment, and of the state at its beginning
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(p.stem.rpartition("-")[2]) for p in segments(folder)]
        self._number = max(numbers, default=0)

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next segment."""
        return self._written > max(self._limit, 2 * self._state_bytes)

    def record(self, plane: ControlPlane, event: Input, now: Micros, effects: list[Effect]) -> None:
        """Note one handled input and what it led to."""
        if self._file is None or self.is_full:
            self.begin(plane)  # the checkpoint already contains this input's outcome
        else:
            self.append(event, now, effects, plane.view)

    def append(self, event: Input, now: Micros, effects: list[Effect], view: View | None) -> None:
        """Note one handled input; ``view`` is the one after it, ``None`` where there were no effects."""
        self.append_all([(event, now, effects, view)])

    def append_all(self, records: Iterable[tuple[Input, Micros, list[Effect], View | None]]) -> None:
        """Note several at once: what ``append`` is given."""
        if self._file is None or self._raw is None:
            return  # of a segment that was given up
        parts = []
        for event, now, effects, view in records:
            if view is not None:
                self._digest = fold(self._digest, effects, view)
            parts.append(pickle.dumps((now, self._kept(event), self._digest), protocol=5))
        self._file.write(b"".join(parts))
        self._written = self._raw.tell()

    def flush(self) -> None:
        """Hand buffered records to the operating system."""
        if self._file is not None and self._raw is not None:
            self._file.flush()
            self._raw.flush()

    def _kept(self, event: Input) -> Input | Again | PackedReport:
        match event:
            case Reported():
                return self._packer.packed(event)
            case Solved():
                return SolvedAgain(event.answer.generation)
            case Surveyed():
                return SurveyedAgain(event.survey.number)
            case ClientsFitted():
                return FittedAgain(event.model.number)
            case Judged():
                return JudgedAgain(event.judgement.number)
            case _:
                return event

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

    def begin(self, plane: ControlPlane) -> None:
        """Start the next segment with the state of the core."""
        self.close()
        self._number += 1
        path = self._folder / f"flight-{self._number:08d}.rec"
        self._raw = path.open("wb", buffering=1 << 16)
        self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=1)  # reports repeat themselves
        self._digest, self._packer = b"", Packer()
        pickle.dump({"format": FORMAT, "plane": plane}, self._file, protocol=5)
        self._written = self._state_bytes = self._raw.tell()
        self._forget()

    def _forget(self) -> None:
        """Keep the newest segments; of a fleet so large that its state alone fills the ring, two."""
        kept = segments(self._folder)
        while len(kept) > SEGMENTS or (len(kept) > 2 and sum(p.stat().st_size for p in kept) > SEGMENTS * self._limit):
            kept.pop(0).unlink()


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
    unpacker = Unpacker()
    digest, recorded, count, diverged = b"", b"", 0, None
    for now, kept, recorded in records:
        try:
            event = _event(kept, plane, unpacker)
        except LookupError as error:
            raise ValueError(f"{path}: record {count} answers {error}, which nobody asked for") from error
        effects = plane.handle(event, now)
        digest = fold(digest, effects, plane.view)
        count += 1
        if digest != recorded and diverged is None:
            diverged = count
    return Replay(count, digest.hex(), recorded.hex(), diverged, plane.view.generation)


def _event(kept: Input | Again | PackedReport, plane: ControlPlane, unpacker: Unpacker) -> Input:
    """The recorded input, computed again where it is a result. Raises ``LookupError`` if nobody waits for it."""
    match kept:
        case PackedReport():
            return unpacker.unpacked(kept)
        case SolvedAgain():
            question = plane.pending_question
            if question is None or question.generation != kept.generation:
                raise LookupError(f"generation {kept.generation}")
            return Solved(question.answer())
        case SurveyedAgain():
            window = plane.pending_window
            if window is None or window.number != kept.number:
                raise LookupError(f"survey {kept.number}")
            return Surveyed(window.survey())
        case FittedAgain():
            census = plane.pending_census
            if census is None or census.number != kept.number:
                raise LookupError(f"fit {kept.number}")
            return ClientsFitted(census.fit())
        case JudgedAgain():
            case = plane.pending_case
            if case is None or case.number != kept.number:  # other data centers since it was asked: an answer too late
                return JudgeFailed(kept.number, "nobody waits for it any more")
            return Judged(case.judged())
        case _:
            return kept


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
