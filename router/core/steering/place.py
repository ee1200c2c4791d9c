"""The decision itself: filters, the ladder, scores, near-equals, stickiness."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from ipaddress import ip_network

import numpy as np

from router.core import policy as rules
from router.core.clients import Access, access_legs
from router.core.dial import CONTROL_SPAN_PPM, identity, positions_ppm
from router.core.kernel import UNREACHABLE
from router.core.model import Client, Constraints, DataCenter, DataCenterId, Micros, Policy, PoolId
from router.core.steering.board import (
    CAPACITY,
    DIAL,
    DOWN,
    DOWN_STATE,
    EXCLUDE,
    INTENT,
    POLICY,
    ROLE,
    RULES,
    SHUT,
    UNKNOWN_STATE,
    UNMEASURED,
    Known,
    Places,
    Plain,
    dialled_of,
    full_of,
    idle_of,
    known_of,
)
from router.core.steering.request import Placement, PlaceRequest, RankedEdge, Refused, Rejected
from router.core.tables import I64, U8, UNKNOWN, Context, View

NEAR_EQUAL_US = 2_000  # edges whose whole way differs by less are equally good; load decides
RANKED = 5  # edges handed to the client to race
NO_IDEA_US = 10_000_000  # an access leg nobody knows, beside others that are known
PANIC_SHARE = 0.5  # more edges than this down at once: rather our eyes than the world
_NONE = np.empty(0, np.int64)
_NOWHERE = (ROLE, INTENT, EXCLUDE, POLICY, SHUT)  # what the ladder never gives up


def _dialled() -> U8:
    """The verdict of a vertex in whose share a user is not: ``[shut, verdict without the dial]``."""
    verdicts = np.full((2, len(RULES)), SHUT, np.uint8)
    verdicts[:, list(_NOWHERE)] = _NOWHERE
    verdicts[0, 0] = DIAL
    return verdicts


_DIALLED = _dialled()


@dataclass(slots=True)
class _Scene:
    """One request before the arrays of its moment."""

    view: View
    request: PlaceRequest
    policy: Policy | None
    context: Context
    known: Known
    access: Access
    verdict: U8  # rule number per vertex, 0 where none objects
    out: I64  # vertices in whose share this user is not
    plain: Plain | None  # of a user who asks for nothing in particular

    @property
    def places(self) -> Places:
        """The data centers."""
        return self.known.places

    def rejected(self) -> tuple[Rejected, ...]:
        """Every vertex with a verdict, in words."""
        return tuple(
            Rejected(self.places.ids[i], RULES[self.verdict[i]], self._detail(int(i)))
            for i in np.flatnonzero(self.verdict)
        )

    def _detail(self, i: int) -> str:
        dc = self.places.data_centers[i]
        match self.verdict[i]:
            case x if x == ROLE:
                return "is not an edge"
            case x if x == INTENT:
                return "has only drained machines" if dc.intent.takes_new_sessions else f"is {dc.intent.value}"
            case x if x == EXCLUDE:
                return "the session is leaving it"
            case x if x == POLICY:
                return rules.forbids(self.policy, dc) or against_wish(self.request.constraints, dc) or ""
            case x if x == DOWN:
                return "is down"
            case x if x == CAPACITY:
                return f"has {self.view.counters.sessions.get(dc.id, 0)} sessions, limit {dc.capacity_sessions}"
            case x if x in (SHUT, DIAL):
                return self._dial_in_words(dc.id)
        return "has not been measured yet"

    def _dial_in_words(self, dc: DataCenterId) -> str:
        dial = self.view.dials[dc]
        whom = "nobody is in it" if not dial.share_ppm else "this user is not in it"
        return f"{dial.cause} {dial.share_ppm / 10_000:g} %, {whom}"


def place(view: View, request: PlaceRequest, now: Micros) -> Placement | Refused:
    """Choose edges and hubs for a new or moving session."""
    scene = _scene(view, request)
    fit = _fit(scene.verdict) if scene.plain is None else scene.plain.fit
    if not fit.size:
        return Refused("no_edge", "no data center may take this session; see rejected for each rule", scene.rejected())
    hubs = _hubs(scene)
    if hubs is not None and not hubs:
        message = f"pool {request.pool} has no idle agent in an allowed data center"
        return Refused("no_idle_agent", message, scene.rejected(), "pool")
    return _choose(scene, fit, hubs)


def hubs_from(view: View, request: PlaceRequest, edge: DataCenterId) -> tuple[DataCenterId, ...]:
    """Where a session that stays at its edge may get another agent: hubs with free ones, nearest first."""
    scene, at = _scene(view, request), view.inventory.index.get(edge)
    return () if at is None else _hub_order(scene, at, _hubs(scene) or None)


def _scene(view: View, request: PlaceRequest) -> _Scene:
    policy_id = rules.matching(view.inventory, request.traffic_class, request.pool, request.labels)
    policy = view.inventory.policies[policy_id] if policy_id is not None else None
    known = known_of(view)
    context = Context(request.traffic_class, policy_id)
    access = access_legs(view, request.client)
    if not (view.dials or request.exclude or _has_wish(request.constraints)):
        plain = _plain(view, request, policy, known)
        return _Scene(view, request, policy, context, known, access, plain.verdict, _NONE, plain)
    out = _out(view, request)
    verdict = _verdicts(view, request, policy, known, out)
    return _Scene(view, request, policy, context, known, access, verdict, out, None)


def _plain(view: View, request: PlaceRequest, policy: Policy | None, known: Known) -> Plain:
    """The verdicts on somebody who asks for nothing in particular: the same for all until a session begins or ends."""
    kept, key = full_of(view).plain, None if policy is None else policy.id
    found = kept.get(key)
    if found is None or found.known is not known:
        verdict = _verdicts(view, request, policy, known, _NONE)
        verdict.setflags(write=False)
        found = kept[key] = Plain(known, verdict, _fit(verdict))
    return found


def _choose(scene: _Scene, fit: I64, hubs: tuple[int, ...] | None) -> Placement | Refused:
    total, hub = _scores(scene, hubs)
    order = fit[total[fit].argsort(kind="stable")]  # vertices are in id order: ties go to the smaller id
    order = order[total[order] < UNREACHABLE]
    if not order.size:
        return Refused("no_path", "no allowed edge has a path to the agent both ways", scene.rejected())
    cap = _cap_us(scene.view, scene.request)
    if cap is not None:
        within = order[total[order] <= cap]
        if not within.size:
            best = total[order[0]] / 1000
            asked = scene.request.constraints.max_rtt_us == cap
            message = f"best whole way is {best:.1f} ms, the limit is {cap / 1000:.1f} ms"
            field = "constraints.max_rtt_ms" if asked else "pool"
            return Refused("max_rtt", message, scene.rejected(), field, cap / 1000)
        order = within
    ranked = _prefer_sticky(scene, _spread(scene, order, total), total)[:RANKED]
    cost = None if hubs is None else scene.known.cost(scene.context)
    edges = tuple(_ranked(scene, i, hub.item(i), total.item(i), cost) for i in ranked)
    return Placement(
        edges,
        _hub_order(scene, ranked[0], hubs),
        scene.rejected,
        _reasons(scene, edges),
        scene.view.generation,
        _arms(scene, ranked[0], total) if scene.view.dials else (),
    )


def _verdicts(view: View, request: PlaceRequest, policy: Policy | None, known: Known, out: I64) -> U8:
    """The first rule of the chain that objects to each vertex."""
    verdict = known.places.rules(policy).copy()
    index = view.inventory.index
    for dc in request.exclude:
        i = index.get(dc)
        if i is not None and verdict[i] in (0, POLICY):
            verdict[i] = EXCLUDE
    wish = request.constraints
    if _has_wish(wish):
        for j in np.flatnonzero(verdict == 0):
            if against_wish(wish, known.places.data_centers[j]) is not None:
                verdict[j] = POLICY
    passed = verdict == 0
    verdict[passed & (known.state == UNKNOWN_STATE)] = UNMEASURED
    verdict[passed & full_of(view).full] = CAPACITY
    verdict[passed & (known.state == DOWN_STATE)] = DOWN
    _ask_dials(view, out, verdict)
    return verdict


def _out(view: View, request: PlaceRequest) -> I64:
    """Vertices in whose share this user is not; one where he is already stays his while its dial is not at 0."""
    if not view.dials:
        return _NONE
    dialled = dialled_of(view)
    out = positions_ppm(identity(request.client, request.labels, request.seed), dialled.salts) >= dialled.share_ppm
    if request.sticky is not None:
        out &= (dialled.at != view.inventory.index.get(request.sticky, -1)) | (dialled.share_ppm == 0)
    return dialled.at[out]


def _ask_dials(view: View, out: I64, verdict: U8) -> None:
    """What is fine but for its dial is a last resort, unless that is at 0; what is not fine either is none."""
    if out.size:
        verdict[out] = _DIALLED[dialled_of(view).shut[out].astype(np.intp), verdict[out]]


def _arms(scene: _Scene, chosen: int, total: I64) -> tuple[tuple[DataCenterId, bool], ...]:
    """Whose canary arm this user is in, and whose control arm: those that only the dial kept him from."""
    request, ids = scene.request, scene.places.ids
    found = [(ids[chosen], True)] if ids[chosen] in scene.view.dials else []
    dialled = dialled_of(scene.view)
    near = (scene.verdict[dialled.at] == DIAL) & (total[dialled.at] <= total[chosen])
    if near.any():
        at = positions_ppm(identity(request.client, request.labels, request.seed), dialled.salts[near])
        within = at < dialled.share_ppm[near] + CONTROL_SPAN_PPM
        found += [(ids[i], False) for i in dialled.at[near][within].tolist()]
    return tuple(found)


def _fit(verdict: U8) -> I64:
    """Vertices to choose from, by the ladder."""
    for given_up in (0, UNMEASURED, DIAL, CAPACITY):
        found = np.flatnonzero(verdict == given_up)
        if found.size:
            return found
    possible = int(np.count_nonzero(~np.isin(verdict, _NOWHERE)))
    down = np.flatnonzero(verdict == DOWN)
    return down if down.size > PANIC_SHARE * possible else np.empty(0, np.int64)


def _has_wish(wish: Constraints) -> bool:
    named = wish.allow_providers is not None or wish.allow_regions is not None
    return named or bool(wish.deny_providers or wish.deny_regions)


def against_wish(wish: Constraints, dc: DataCenter) -> str | None:
    """Why a request's own constraints keep it out of a data center, ``None`` if they do not."""
    if wish.allow_providers is not None and dc.provider not in wish.allow_providers:
        return f"the request allows only providers {', '.join(wish.allow_providers)}"
    if dc.provider in wish.deny_providers:
        return f"the request denies provider {dc.provider}"
    if wish.allow_regions is not None and dc.region not in wish.allow_regions:
        return f"the request allows only regions {', '.join(wish.allow_regions)}"
    if dc.region in wish.deny_regions:
        return f"the request denies region {dc.region}"
    return None


def _hubs(scene: _Scene) -> tuple[int, ...] | None:
    """Vertices the far end may be in; ``None`` when the session has no far end."""
    view, request = scene.view, scene.request
    fixed = request.agent_data_center or request.to
    if fixed is not None:
        i = view.inventory.index.get(fixed)
        return () if i is None else (i,)
    if request.pool is None or request.edge_only:
        return None
    if scene.plain is None:
        return _free_hubs(scene, request.pool)
    found = scene.plain.hubs.get(request.pool)
    if found is None:
        found = scene.plain.hubs[request.pool] = _free_hubs(scene, request.pool)
    return found


def _free_hubs(scene: _Scene, pool: PoolId) -> tuple[int, ...]:
    """Vertices where agents of a pool are free that this session may have."""
    view, request = scene.view, scene.request
    free = idle_of(view, pool)
    free = free[scene.known.may_hold(scene.policy)[free]]
    if scene.out.size:
        inside = np.ones(len(scene.verdict), np.bool_)
        inside[scene.out] = False
        free = free[inside[free]]
    found: list[int] = free.tolist()
    if _has_wish(request.constraints):
        wish, places = request.constraints, scene.places.data_centers
        found = [i for i in found if against_wish(wish, places[i]) is None]
    return tuple(found)


def _scores(scene: _Scene, hubs: tuple[int, ...] | None) -> tuple[I64, I64]:
    """Whole way there and back int64 ``[vertex]``, ``UNREACHABLE`` or more without a path, and the hub it leads to."""
    leg = scene.access.one_way_us
    if leg.size and leg.min() == UNKNOWN:
        unknown = leg == UNKNOWN
        leg = np.where(unknown, 0 if unknown.all() else NO_IDEA_US, leg)
    if hubs is None:
        return 2 * leg + scene.known.penalty_us, np.full(len(leg), -1, np.int64)
    return 2 * leg + scene.known.trip_us(scene.context, hubs), scene.known.ways_to(scene.context, hubs).hub


def _cap_us(view: View, request: PlaceRequest) -> float | None:
    """The tightest limit on the whole way; a pool's own limit binds new sessions, never one that has its agent."""
    pool = view.inventory.pools.get(request.pool) if request.pool is not None else None
    caps: list[float] = []
    if request.constraints.max_rtt_us is not None:
        caps.append(request.constraints.max_rtt_us)
    if pool is not None and pool.max_rtt_us is not None and request.agent_data_center is None:
        caps.append(pool.max_rtt_us * request.cap_factor)
    return min((cap for cap in caps if math.isfinite(cap)), default=None)


def _spread(scene: _Scene, order: I64, total: I64) -> list[int]:
    """Put the emptier of two near-equals at the top; the rest stays by quality."""
    listed: list[int] = order[: max(RANKED, 64)].tolist()
    limit = total[listed[0]] + NEAR_EQUAL_US
    near = [i for i in listed if total[i] <= limit]
    if len(near) > 1:
        near.sort(key=lambda i: _rendezvous(scene.request.seed, scene.places.ids[i]))
        chosen = min(near[:2], key=lambda i: _load(scene, i))  # the first of two equals: the hash decides
        listed.remove(chosen)
        listed.insert(0, chosen)
    return listed


def _load(scene: _Scene, i: int) -> int:
    """Load in tenths of capacity, so that tiny differences do not herd."""
    capacity = int(scene.places.capacity[i])
    return 10 * int(full_of(scene.view).sessions[i]) // capacity if capacity else 0


def _rendezvous(seed: str, dc: DataCenterId) -> bytes:
    return hashlib.blake2b(f"{seed}|{dc}".encode(), digest_size=8).digest()


def _prefer_sticky(scene: _Scene, listed: list[int], total: I64) -> list[int]:
    """Keep the edge a session has while it costs at most a tenth more than the best."""
    held = None if scene.request.sticky is None else scene.view.inventory.index.get(scene.request.sticky)
    if held is None or held not in listed or total[held] > total[listed[0]] * 1.1 + NEAR_EQUAL_US:
        return listed
    return [held, *(i for i in listed if i != held)]


def _ranked(scene: _Scene, i: int, hub: int, total: int, cost: I64 | None) -> RankedEdge:
    places, access = scene.known.places, scene.access
    leg, dc = access.one_way_us.item(i), places.ids[i]
    provenance = access.provenance_of(i)
    text = "access unknown" if leg == UNKNOWN else f"access {2 * leg / 1000:.1f} ms ({provenance})"
    forward = backward = far = None
    if cost is not None:
        forward, backward, far = cost.item(i, hub), cost.item(hub, i), places.ids[hub]
        text += f" + route to {far} {(forward + backward) / 1000:.1f} ms"
    reason = f"{dc}: {text}" if leg == UNKNOWN else f"{dc}: {text} = {total / 1000:.1f} ms round trip"
    return RankedEdge(dc, places.node[i], places.url[i], far, leg, provenance, forward, backward, total, reason)


def _why_unknown(client: Client) -> str:
    """Why nobody can say how far a user is from an edge, and what would help."""
    if client.prefix is not None and client.asn is None and not ip_network(client.prefix)[0].is_global:
        why = f"{client.prefix} is no network of the public Internet"
    elif client == Client():
        why = "the request names no address, AS number, country or position of its user"
    else:
        why = "no measurement and no file of locations knows this user's network"
    return f"{why}: the routes alone decided; a country or a position would help"


def _hub_order(scene: _Scene, chosen: int, hubs: tuple[int, ...] | None) -> tuple[DataCenterId, ...]:
    """Hubs from best to worst as seen from the chosen edge, for the store to take an agent from."""
    return () if hubs is None else scene.known.order(scene.context, chosen, hubs)


def _reasons(scene: _Scene, edges: tuple[RankedEdge, ...]) -> tuple[str, ...]:
    lines = [f"chose {edges[0].reason}"]
    if len(edges) > 1:
        lines.append(f"next best {edges[1].reason}")
    if edges[0].access_us == UNKNOWN:
        lines.append(_why_unknown(scene.request.client))
    if scene.verdict[scene.view.inventory.index[edges[0].data_center]]:
        lines.append("no edge passes every rule; this one is the last resort")
    if scene.policy is not None:
        lines.append(f"under policy {scene.policy.id}")
    return tuple(lines)
