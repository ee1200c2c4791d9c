"""What an agent keeps on disk: who it is, and the last plans it got.

The identity is written once, right after joining, and synced, because the token that bought it is used up. The plans
are rewritten when they change, so that a restart without a control plane goes on probing and routing; what was sent in
the month is rewritten every minute, so that a restart does not begin the monthly budget anew. Files replace
each other atomically and are readable by their owner alone.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from probes.budget import MonthState
from probes.wire import ProbePlan, ReactionPlan, WireError, decode_plan, decode_reaction_plan, encode


class StateError(Exception):
    """The state folder cannot be used as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node traded its join token for; ``token_digest`` recognises that token, so that it is not tried again."""

    node: str
    data_center: str
    key: str
    token_digest: str = ""


class StateDir:
    """The files ``identity.json``, ``plan.json``, ``reaction-plan.json`` and ``month.json`` of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make the state folder {path}: {error.strerror}") from error

    def load_identity(self, node: str) -> Identity | None:
        """The identity if the node has joined. Raises :class:`StateError` if the file is damaged or another node's."""
        file = self.path / "identity.json"
        try:
            record = json.loads(file.read_text())
            identity = Identity(**record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StateError(f"{file} is not readable ({error}); remove it and join with a new token") from error
        if identity.node != node:
            raise StateError(f"{file} belongs to node {identity.node}, not {node}; use a state folder per node")
        return identity

    def save_identity(self, identity: Identity) -> None:
        """Write the identity, mode 0600, and wait until it is on disk."""
        self._write("identity.json", asdict(identity), sync=True)

    def load_plan(self, node: str) -> ProbePlan | None:
        """The last plan if there is one for this node. Raises :class:`WireError` if it is damaged or another node's."""
        try:
            plan = decode_plan(json.loads((self.path / "plan.json").read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise WireError("plan", f"the copy on disk is not readable: {error}") from error
        if plan.node != node:
            raise WireError("node", f"the copy on disk must be the plan of {node}")
        return plan

    def save_plan(self, plan: ProbePlan) -> None:
        """Write the plan; losing it in a power cut costs nothing but a fetch."""
        self._write("plan.json", encode(plan), sync=False)

    def load_reaction_plan(self) -> tuple[ReactionPlan, int] | None:
        """The last reaction plan and the wall-clock time (microseconds) it came at. Raises :class:`WireError`."""
        try:
            record = json.loads((self.path / "reaction-plan.json").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise WireError("reaction_plan", f"the copy on disk is not readable: {error}") from error
        if not isinstance(record, dict) or type(record.get("received_at_us")) is not int:
            raise WireError("received_at_us", "must be an integer in the copy on disk")
        return decode_reaction_plan(record.get("plan")), record["received_at_us"]

    def save_reaction_plan(self, plan: ReactionPlan, received_at_us: int) -> None:
        """Write the reaction plan; losing it in a power cut costs nothing but a fetch."""
        self._write("reaction-plan.json", {"received_at_us": received_at_us, "plan": encode(plan)}, sync=False)

    def load_month(self) -> MonthState | None:
        """What was sent in the month when it was last written; ``None`` if that is not known."""
        try:
            record = json.loads((self.path / "month.json").read_text())
            state = MonthState(**record)
        except (OSError, ValueError, TypeError, RecursionError):
            return None  # lost, so that counting starts anew: probing must not depend on this file
        return state if type(state.month) is type(state.sent_bytes) is int and state.sent_bytes >= 0 else None

    def save_month(self, state: MonthState) -> None:
        """Write what was sent in the month."""
        self._write("month.json", asdict(state), sync=False)

    def forget_reaction_plan(self) -> None:
        """Remove the reaction plan: it is that of another control plane."""
        (self.path / "reaction-plan.json").unlink(missing_ok=True)

    def _write(self, name: str, record: object, *, sync: bool) -> None:
        temporary = self.path / f".{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(record, file)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(self.path / name)
        except OSError:
            with suppress(OSError):
                temporary.unlink()  # half a file on a full disk helps nobody
            raise
