"""Bounded scalar types and the two base models; everything the contract calls an id, a time, a price or a label.

Numbers are strict (no ``"5"``, no ``true``), finite and bounded. Text is printable and bounded, because it ends up in
logs, in SQL and in terminals.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.core.model import ID_PATTERN
from router.schemas.units import micros

MAX_SAFE = (1 << 53) - 1  # JavaScript reads integers exactly up to here
MAX_TEXT = 255
MAX_LIST = 256
MAX_LABELS = 64
MAX_DELAY_MS = 60_000.0  # longer is a broken clock, not a path
MAX_USD_PER_GB = 1_000.0
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"


def _is_time(text: str) -> str:
    try:
        micros(text)
    except ValueError:
        raise PydanticCustomError(
            "time", "must be an RFC 3339 time with a zone, such as 2026-11-22T15:04:05Z"
        ) from None
    return text


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN, max_length=63)]
Text = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=MAX_TEXT)]
Reason = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=1_000)]
Url = Annotated[str, StringConstraints(pattern=r"^[!-~]*$", max_length=MAX_TEXT)]
Host = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+)$", max_length=253)
]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Time = Annotated[
    str,
    StringConstraints(pattern=TIME_PATTERN, max_length=40),
    AfterValidator(_is_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Latitude = Annotated[float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False)]
DelayMs = Annotated[float, Field(strict=True, ge=0, le=MAX_DELAY_MS, allow_inf_nan=False)]
LossPct = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
UsdPerGb = Annotated[float, Field(strict=True, ge=0, le=MAX_USD_PER_GB, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Epoch = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE)]
Port = Annotated[int, Field(strict=True, ge=0, le=65_535)]
Asn = Annotated[int, Field(strict=True, ge=1, le=4_294_967_295)]
Flag = Annotated[bool, Field(strict=True)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$", max_length=63)]
Labels = Annotated[dict[LabelKey, Text], Field(max_length=MAX_LABELS)]


def no_repeats(values: list[str]) -> list[str]:
    """Refuse a list that names something twice."""
    if len(set(values)) != len(values):
        raise PydanticCustomError("unique", "must not repeat an entry")
    return values


Ids = Annotated[list[Id], Field(max_length=MAX_LIST), AfterValidator(no_repeats)]


class Body(BaseModel):
    """What comes in: unknown fields are refused, defaults are checked, nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Answer(BaseModel):
    """What goes out; describes the dicts that the mapping functions make."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)
