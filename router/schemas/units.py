"""Conversions at the edge: integers inside, floats and RFC 3339 text outside; ``None`` where nothing is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from router.core.model import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def ms(value_us: int) -> float:
    """Microseconds -> milliseconds with three decimals."""
    return round(value_us / 1000, 3)


def known_ms(value_us: int | None) -> float | None:
    """Microseconds -> milliseconds; ``None`` stays and the arrays' -1 becomes ``None``."""
    return None if value_us is None or value_us < 0 else round(value_us / 1000, 3)


def us(value_ms: float) -> int:
    """Milliseconds -> microseconds."""
    return round(value_ms * 1000)


def pct(value_ppm: int) -> float:
    """Parts per million -> %."""
    return round(value_ppm / 10_000, 4)


def known_pct(value_ppm: int) -> float | None:
    """Parts per million -> %, the arrays' -1 becomes ``None``."""
    return None if value_ppm < 0 else round(value_ppm / 10_000, 4)


def ppm(value_pct: float) -> int:
    """% -> parts per million."""
    return round(value_pct * 10_000)


def usd(value_microusd: int | None) -> float | None:
    """Millionths of a US dollar -> US dollars."""
    return None if value_microusd is None else value_microusd / 1_000_000


def microusd(value_usd: float | None) -> int | None:
    """US dollars -> millionths of a US dollar."""
    return None if value_usd is None else round(value_usd * 1_000_000)


def rfc3339(at: Micros) -> str:
    """Microseconds since the Unix epoch -> ``2026-11-22T15:04:05.123456Z``."""
    second, fraction = divmod(at, 1_000_000)
    return f"{_to_the_second(second)}.{fraction:06d}Z"


@lru_cache(maxsize=256)
def _to_the_second(second: int) -> str:
    """Those who answer thousands of times a second tell the same one each time."""
    return (_EPOCH + timedelta(seconds=second)).isoformat(timespec="seconds").removesuffix("+00:00")


def known_rfc3339(at: Micros | None) -> str | None:
    """Like :func:`rfc3339`; ``None`` and 0 ("never") become ``None``."""
    return rfc3339(at) if at else None


def micros(text: str) -> Micros:
    """RFC 3339 text with a zone -> microseconds since the Unix epoch. Raises ``ValueError``."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("must carry a zone, such as Z")
    return (moment - _EPOCH) // _MICROSECOND
