"""Keys, sign-in, and how a node joins: join tokens, join, plan acknowledgement."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from router.core.model import DataCenterId, Node, NodeId
from router.schemas.fields import Answer, Body, Epoch, Host, Id, Labels, Port, Text, Url

Secret = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
Scope = Annotated[
    str, StringConstraints(pattern=r"^(viewer|media|operator|admin|agent:[a-z0-9][a-z0-9-]{0,62})$", max_length=69)
]


class KeyBody(Body):
    """A key to make: its scope, and a name that says whose it is."""

    scope: Scope
    name: Annotated[Text, StringConstraints(min_length=1)]


class KeyAnswer(Answer):
    """A key as it is kept; ``key`` is shown once, when it is made."""

    id: str
    scope: str
    name: str
    created_at: str
    revoked_at: str | None
    key: str | None = None


class SignInBody(Body):
    """A key, to be traded for the dashboard's cookie."""

    key: Secret


class SignInAnswer(Answer):
    """Who is signed in; ``csrf_token`` goes into ``X-Tendril-CSRF`` of every request that changes something."""

    scope: str
    name: str
    key: str
    expires_at: str | None = Field(description="null for a request with a key of its own")
    csrf_token: str | None


class JoinTokenBody(Body):
    """How long a join token may be used."""

    expires_in_s: Annotated[int, Field(strict=True, ge=10, le=7 * 86_400)] = 3_600


class JoinTokenAnswer(Answer):
    """A single-use token as it is kept."""

    id: str
    data_center: str
    state: Literal["unused", "used", "expired", "revoked"]
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: str | None


class NewJoinTokenAnswer(JoinTokenAnswer):
    """A token that was just made, or asked for again: the only answer with the secret in it."""

    token: str


class JoinTokenList(Answer):
    """Tokens of a data center, oldest first."""

    items: list[JoinTokenAnswer]
    next: str | None


class JoiningNode(Body):
    """What a machine says about itself when it joins; its data center is the token's."""

    id: Id
    addresses: Annotated[dict[Id, Host], Field(min_length=1, max_length=8)]
    reflector_port: Annotated[Port, Field(ge=1)] = 862
    relay_port: Port = 0
    media_url: Url = ""
    labels: Labels = Field(default_factory=dict)

    def core(self, data_center: DataCenterId) -> Node:
        """Map to the core type."""
        return Node(
            NodeId(self.id),
            data_center,
            dict(sorted(self.addresses.items())),
            self.reflector_port,
            self.relay_port,
            self.media_url,
            dict(sorted(self.labels.items())),
        )


class JoinBody(Body):
    """A join token and the node that uses it."""

    token: Secret
    node: JoiningNode


class PeerAnswer(Answer):
    """One peer of a probe plan, as in ``probes.wire``."""

    node: str
    data_center: str
    transport: str
    host: str
    reflector_port: int
    relay_port: int
    interval_us: int
    tier: str
    weight: int
    key_id: int
    key: str


class RelayAnswer(Answer):
    """A relay that packets may be handed to although its node is not probed, as in ``probes.wire``."""

    node: str
    host: str
    relay_port: int
    key_id: int
    key: str


class VantageAnswer(Answer):
    """A machine in somebody else's network that a node measures, as in ``probes.wire``."""

    target: str
    kind: str
    host: str
    port: int
    asn: int
    country: str
    interval_us: int


class BudgetAnswer(Answer):
    """What a node may send, as in ``probes.wire``."""

    packets_per_s: int
    bytes_per_s: int
    monthly_bytes: int
    reserve_ppm: int


class PlanAnswer(Answer):
    """A probe plan, as in ``probes.wire``."""

    node: str
    data_center: str
    plan_version: int
    issued_at_us: int
    expires_at_us: int
    report_interval_us: int
    timeout_us: int
    peers: list[PeerAnswer]
    budget: BudgetAnswer
    floor_interval_us: int
    vantage: list[VantageAnswer]
    contact: str
    own_key: str
    relays: list[RelayAnswer]
    version: int


class TriggersAnswer(Answer):
    """When a path is suspect, down and up again, as in ``probes.wire``."""

    keepalive_us: int
    suspect_missing: int
    burst_probes: int
    burst_gap_us: int
    down_missing: int
    up_answers: int
    hold_down_us: int


class ReactionHopsAnswer(Answer):
    """Columns of a reaction plan: where to send for a data center over a transport."""

    data_center: list[int]
    transport: list[str]
    host: list[str]
    port: list[int]
    node: list[str]
    reflector_port: list[int]


class ReactionRowsAnswer(Answer):
    """Columns of a reaction plan: the paths to each destination, the one in force first."""

    table: list[int]
    target: list[int]
    choices: list[list[int]]
    protects: list[str]
    overdue_us: list[int]


class ReactionPlanAnswer(Answer):
    """A reaction plan, as in ``probes.wire``."""

    node: str
    data_center: str
    generation: int
    plan_version: int
    computed_at_us: int
    issued_at_us: int
    degraded_at_us: int
    triggers: TriggersAnswer
    contexts: list[str]
    tables: list[int]
    data_centers: list[str]
    hops: ReactionHopsAnswer
    paths: list[list[int]]
    rows: ReactionRowsAnswer
    drained: list[int]
    version: int


class JoinAnswer(Answer):
    """A node's identity, its key (shown once) and its first plan."""

    node: str
    data_center: str
    key: str
    plan: PlanAnswer


class AckBody(Body):
    """The versions of the plans that a node now follows; generation 0: no reaction plan yet."""

    plan_version: Epoch
    generation: Annotated[int, Field(ge=0, lt=1 << 53)] = 0
    reaction_etag: Annotated[str, Field(max_length=64)] = ""


class Accepted(Answer):
    """A report or an acknowledgement was taken; the node fetches its plan again when the version differs."""

    plan_version: int


class Alive(Answer):
    """The process runs, or is ready to serve."""

    status: Literal["ok"]
