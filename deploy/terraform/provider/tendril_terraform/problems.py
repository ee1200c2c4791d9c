"""From refusals to Terraform's diagnostics: what went wrong, where in the configuration, and what to do."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tf.utils import Diagnostics

from tendril_terraform.client import Refused, Unreachable
from tendril_terraform.shape import Path, tf_name

T = TypeVar("T")


class Failed(Exception):
    """A step that cannot be done: what a person reads, and where it points to."""

    def __init__(self, summary: str, detail: str = "", path: Path | None = None) -> None:
        super().__init__(summary)
        self.summary, self.detail, self.path = summary, detail, path


def path_of(field: object, known: Iterable[str]) -> Path | None:
    """The attribute that a refusal's ``field`` names, if the resource has one of that name."""
    if not isinstance(field, str):
        return None
    first = field.split(".")[0]  # Terraform finds no line inside an object literal
    name = tf_name(first)
    return [name] if name in known else None


def told(diagnostics: Diagnostics, known: Iterable[str], work: Callable[[], T], kept: T) -> T:
    """Do it; where it fails, say why in the configuration's terms and return what is still true."""
    try:
        return work()
    except Failed as failed:
        diagnostics.add_error(failed.summary, failed.detail, failed.path)
    except Refused as refusal:
        rule = f"\nRule: {refusal.rule}" if refusal.rule else ""
        limit = "" if refusal.limit is None else f"\nLimit: {refusal.limit}"
        override = f"\nTo insist: {refusal.override}" if refusal.override else ""
        summary = f"Tendril refused: {refusal.code or refusal.status}"
        diagnostics.add_error(summary, f"{refusal}{rule}{limit}{override}", path_of(refusal.field, known))
    except Unreachable as silence:
        diagnostics.add_error("The control plane does not answer", str(silence))
    except Exception as error:  # noqa: BLE001 - gRPC would show no more than "Exception calling application"
        traceback.print_exc(file=sys.stderr)
        diagnostics.add_error("Defect of the Tendril provider", f"{type(error).__name__}: {error}")
    return kept


def first_line(text: Any) -> str:
    """One line of a refusal, for a list."""
    return str(text).splitlines()[0]
