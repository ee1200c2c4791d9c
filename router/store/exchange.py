"""The batch of a group commit in two statements: look and lock, then write.

What a batch usually holds takes the short way: a live session that ends, a start with a new key whose first hub has an
agent. At thousands of requests a second every statement costs a round trip, a plan and a turn of the interpreter.
Whatever is unusual (a repeated key, a hub without agents, a queue, a session that has ended before) is left to
:mod:`router.store.takes` and :mod:`router.store.sessions`, in the same transaction and once the short way is written:
they decide on what is there then.

Ends come first, so that their agents can be taken again by the same batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from router.core.model import Agent, AgentId, AgentState, Event, Leg, Micros, Session, SessionId, SessionState
from router.store import agents, batch_postgres, batch_sqlite, legs, takes
from router.store.batch import Asked, Notes, Sight
from router.store.commit import Commit, Tally
from router.store.rebinds import unknown_session
from router.store.rows import Row, read_agent, read_session, started_row
from router.store.sessions import end_legs, ended_event, of_ids
from router.store.takes import IDEMPOTENCY_US, PROVEN, End, Exchanged, Outcome, Place, Start


@dataclass(slots=True)
class _Work:
    """A batch on its way."""

    sight: Sight
    now: Micros
    tally: Tally = field(default_factory=Tally)
    ended: dict[SessionId, Session] = field(default_factory=dict)
    started: dict[int, Session] = field(default_factory=dict)  # by the number of its request
    agents: dict[AgentId, Agent] = field(default_factory=dict)  # of both, as they are after it
    events: list[Event] = field(default_factory=list)


def exchange(connection: Connection, starts: Sequence[Start], ends: Sequence[End], now: Micros) -> Commit[Exchanged]:
    """End sessions, then start others, all in one transaction; each request has an answer of its own."""
    driver = batch_postgres if connection.dialect.name == "postgresql" else batch_sqlite
    asked = _asked(starts, ends, now)
    work = _Work(driver.look(connection, asked), now)
    _end(work)
    if work.sight.legs:
        end_legs(connection, list(work.ended), now, work.tally)
    _start(work, starts)
    late = [i for i in range(len(starts)) if i not in work.started]
    others = [SessionId(id) for id in asked.ends if SessionId(id) not in work.ended]
    driver.write(connection, _notes(work, starts), last=not late and not others and not work.sight.legs)
    found = {session.id: session for session in of_ids(connection, others)} if others else {}
    rest: Commit[tuple[Outcome, ...]] = Commit(())
    if late:
        rest = takes.start_many(connection, [starts[i] for i in late], now)
    outcomes: dict[int, Outcome] = {**work.started, **dict(zip(late, rest.result, strict=True))}
    answers = [work.ended.get(end.id) or found.get(end.id) or unknown_session(end.id) for end in ends]
    reached = {id: (agent.address, agent.agent_version) for id, agent in work.agents.items()}
    if late or others:
        reached |= takes.reached(connection, (*rest.result, *found.values()))
    further = _legs(connection, work, others)
    done = Exchanged(tuple(outcomes[i] for i in range(len(starts))), tuple(answers), reached, further)
    return Commit(done, work.tally.changes() + rest.changes, _somebody_waits(work, rest.result))


def _asked(starts: Sequence[Start], ends: Sequence[End], now: Micros) -> Asked:
    places: dict[Place, int] = {}
    for start in starts:
        if start.session.pool is not None and start.hubs:
            place = start.session.pool, start.hubs[0], start.version
            places[place] = places.get(place, 0) + 1
    return Asked(
        ends={end.id: end.reason for end in sorted(ends, key=lambda end: (end.id, end.reason), reverse=True)},
        places=places,
        keys=[start.idempotency_key for start in starts if start.idempotency_key is not None],
        edges=sorted({start.session.edge for start in starts if start.session.edge_node is None}),
        nodes=sorted({start.session.edge_node for start in starts if start.session.edge_node is not None}),
        now=now,
    )


def _end(work: _Work) -> None:
    """Give back the agents of the sessions that have ended."""
    ended = sorted(map(read_session, work.sight.ended), key=lambda session: session.id)
    work.ended = {session.id: session for session in ended}
    held = map(read_agent, work.sight.held)
    changed = agents.freed(held, ended, agents.pools_in(work.sight.pools), work.now) if ended else []
    for before, after in changed:
        work.tally.agent(before, after)
        work.agents[after.id] = after
    for session in ended:
        work.tally.session(session.edge, None)
    work.events += agents.told(changed, work.now)
    work.events += [ended_event(session, work.now) for session in ended]


def _start(work: _Work, starts: Sequence[Start]) -> None:
    """Start what has all it needs, in the order of the requests."""
    ready = _ready(work)
    keys: set[str] = set()
    for i, start in enumerate(starts):
        key, session = start.idempotency_key, start.session
        repeated = key is not None and (key in keys or key in work.sight.known)
        if key is not None:
            keys.add(key)
        if repeated or not _has_place(work.sight, session):
            continue
        agent = None
        if session.pool is not None:
            behind = start.queue_until is not None and session.pool in work.sight.queued
            place = None if behind or not start.hubs else (session.pool, start.hubs[0], start.version)
            agent = None if place is None else _take(work, ready.get(place, []), session.id)
            if agent is None:
                continue
        work.started[i] = session = takes.bound(session, agent)
        work.tally.session(None, session.edge)
        work.tally.began(session.pool, session.edge)
        work.events.append(takes.started_event(session, work.now))


def _ready(work: _Work) -> dict[Place, list[Agent]]:
    """Agents that may be taken, per place, those with the most room first: the next one is the last."""
    found = [(row["lane"], read_agent(row)) for row in work.sight.free if row["id"] not in work.agents]
    on_ramps = work.sight.on_ramps
    for agent in work.agents.values():
        if agent.state is AgentState.READY and not agent.cordoned and agent.node not in work.sight.closed:
            found.append((agent.agent_version if (agent.pool, agent.agent_version) in on_ramps else PROVEN, agent))
    ready: dict[Place, list[Agent]] = {}
    for lane, agent in sorted(found, key=lambda one: (-one[1].held, one[1].id), reverse=True):
        ready.setdefault((agent.pool, agent.data_center, lane), []).append(agent)
    return ready


def _take(work: _Work, ready: list[Agent], session: SessionId) -> Agent | None:
    """Take the next agent; one with room for more stays the next."""
    if not ready:
        return None
    before = ready.pop()
    after = takes.bound_to(before, session, work.now)
    if after.state is AgentState.READY:
        ready.append(after)
    work.tally.agent(before, after)
    work.agents[after.id] = after
    return after


def _has_place(sight: Sight, session: Session) -> bool:
    node = session.edge_node
    return session.edge in sight.edges if node is None else sight.homes.get(node) == session.edge


def _notes(work: _Work, starts: Sequence[Start]) -> Notes:
    keys: list[Row] = [
        {
            "key": key,
            "request_hash": starts[i].request_hash,
            "session": session.id,
            "expires_at": work.now + IDEMPOTENCY_US,
        }
        for i, session in work.started.items()
        if (key := starts[i].idempotency_key) is not None
    ]
    return Notes(
        agents=[
            {
                "id": agent.id,
                "state": agent.state.value,
                "epoch": agent.epoch,
                "held": agent.held,
                "served": agent.served,
                "session": agent.session,
                "since": agent.since,
                "deadline_at": agent.deadline_at,
            }
            for agent in work.agents.values()
        ],
        sessions=[started_row(session) for session in work.started.values()],
        keys=keys,
        departures=[
            {"node": session.edge_node, "session": session.id, "stray": False, "created_at": work.now}
            for session in work.ended.values()
            if session.edge_node is not None
        ],
        events=[
            {
                "at": event.at,
                "kind": event.kind,
                "subject": event.subject,
                "actor": event.actor,
                "reason": event.reason,
                "detail": event.detail,
            }
            for event in work.events
        ],
    )


def _legs(connection: Connection, work: _Work, others: list[SessionId]) -> Mapping[SessionId, tuple[Leg, ...]]:
    """The further legs of the sessions that ended, now or before."""
    asked = [*work.ended, *others] if work.sight.legs else others
    return legs.of_sessions(connection, asked) if asked else {}


def _somebody_waits(work: _Work, outcomes: Sequence[Outcome]) -> bool:
    """Whether sessions wait for agents in one of the pools that this was about."""
    queued = (isinstance(one, Session) and one.state is SessionState.QUEUED for one in outcomes)
    return bool(work.sight.queued) or any(queued)
