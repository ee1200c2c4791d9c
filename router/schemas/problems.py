"""RFC 9457 problem details as Tendril writes them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FieldProblem(BaseModel):
    """One broken rule of a body or query that broke several."""

    field: str
    rule: str
    limit: str | int | float | None = None


class Problem(BaseModel):
    """``application/problem+json``: what was refused, by which rule, with which limit, and how to insist."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`urn:tendril:problem:` and the code")
    title: str
    status: int
    detail: str
    code: str = Field(description="stable, see docs/reference/errors.md")
    field: str | None = None
    rule: str | None = None
    limit: str | int | float | None = None
    override: str | None = Field(default=None, description="how to insist, where that is possible")
    errors: list[FieldProblem] | None = Field(default=None, description="all broken rules, when there are several")
