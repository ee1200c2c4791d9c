"""The store: every durable read and write of the control plane, one transaction each.

Calls block; the runtime makes them from executor threads, and every method may be called from any thread. A write
returns a :class:`Commit` once it is durable; when a method raises, nothing of it was written. The work itself is in one
module per noun, as functions of a connection, so that several of them can share a transaction.

All of them raise ``Unavailable("database_unavailable")`` when the database cannot be used now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from router.access import JoinToken, Key
from router.core.blame.facts import Fits
from router.core.errors import InputRejected
from router.core.messages import AppendHistory, RouteChange
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    Counters,
    DataCenterId,
    Drain,
    Event,
    Flow,
    Intent,
    Inventory,
    KeyId,
    Leg,
    LegId,
    Micros,
    Node,
    NodeId,
    PoolId,
    Ramp,
    Resource,
    Session,
    SessionId,
    SessionState,
)
from router.core.pools import Places
from router.store import (
    agents,
    boot,
    cuts,
    departures,
    drains,
    events,
    exchange,
    heartbeats,
    history,
    join_tokens,
    keys,
    legs,
    machines,
    migrate,
    queue,
    ramps,
    rebinds,
    registration,
    resources,
    session_queries,
    sessions,
)
from router.store.commit import Commit, count_all
from router.store.engine import Database
from router.store.heartbeats import Beat, Heard
from router.store.launches import Launches
from router.store.pinned import Pinned
from router.store.rebinds import Rebind, Rebound, Sighted
from router.store.takes import End, Exchanged, Start
from router.store.webhooks import Webhooks


class Store:
    """One database, by its SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._read = self._database.read
        self._write = self._database.write
        self.webhooks = Webhooks(self._read, self._write)
        self.launches = Launches(self._read, self._write)

    def upgrade(self) -> None:
        """Migrate to the newest version; nothing to do is fine."""
        migrate.upgrade(self._database)

    def close(self) -> None:
        """Close the connections; the store can still be used and opens new ones."""
        self._database.close()

    def boot(self, now: Micros) -> boot.BootState:
        """Raise the epoch and read all hard state, in one transaction."""
        del now  # nothing at start depends on the time; the argument keeps the signature of every write
        return self._write(boot.boot, snapshot=True)

    # --- resources ---------------------------------------------------------------------------------------------------

    def put(self, resource: Resource, *, if_match: int | None, actor: str, now: Micros) -> Commit[Resource]:
        """Create or replace a resource; an identical one keeps its revision. ``if_match`` 0: it must not exist."""
        return self._write(lambda c: resources.put(c, resource, if_match=if_match, actor=actor, now=now))

    def delete(self, kind: str, id: str, *, if_match: int | None, actor: str, now: Micros) -> Commit[None]:
        """Delete a resource that nothing needs."""
        return self._write(lambda c: resources.remove(c, kind, id, if_match=if_match, actor=actor, now=now))

    def apply(
        self, puts: Sequence[Resource], deletes: Sequence[tuple[str, str]], *, actor: str, now: Micros
    ) -> Commit[tuple[Resource, ...]]:
        """Carry out many writes or none of them; the result is ``puts`` as they now are."""
        return self._write(lambda c: resources.change(c, puts, deletes, actor=actor, now=now))

    def inventory(self) -> Inventory:
        """Return all resources as of one moment."""
        return self._read(resources.inventory)

    # --- keys and joining --------------------------------------------------------------------------------------------

    def add_key(self, key: Key, *, actor: str, now: Micros) -> Commit[Key]:
        """Write a new key; the same key again changes nothing."""
        return self._write(lambda c: keys.add(c, key, actor=actor, now=now))

    def revoke_key(self, id: KeyId, *, actor: str, now: Micros) -> Commit[Key]:
        """Make a key worthless."""
        return self._write(lambda c: keys.revoke(c, id, actor=actor, now=now))

    def keys(self) -> tuple[Key, ...]:
        """Return all keys, oldest first, revoked ones too."""
        return self._read(keys.every)

    def add_join_token(self, token: JoinToken, name: str | None = None, *, actor: str) -> Commit[JoinToken]:
        """Let one node join a data center; an unused token of the same name is given again."""
        return self._write(lambda c: join_tokens.add(c, token, name, actor=actor))

    def join_tokens(self, data_center: DataCenterId) -> tuple[JoinToken, ...]:
        """Return the join tokens of a data center, oldest first, spent ones too."""
        return self._read(lambda c: join_tokens.of_data_center(c, data_center))

    def join_token(self, id: str) -> JoinToken:
        """Return a join token by its public name. Raises ``unknown_join_token``."""
        return self._read(lambda c: join_tokens.find(c, id))

    def revoke_join_token(self, id: str, *, actor: str, now: Micros) -> Commit[JoinToken]:
        """Make a join token worthless."""
        return self._write(lambda c: join_tokens.revoke(c, id, actor=actor, now=now))

    def redeem_join_token(self, token_hash: bytes, node: Node, key: Key, now: Micros) -> Commit[Node]:
        """Trade a token for a node with a key of its own; the node's older keys are revoked."""
        return self._write(lambda c: join_tokens.redeem(c, token_hash, node, key, now))

    # --- agents ------------------------------------------------------------------------------------------------------

    def register_agent(self, agent: Agent, now: Micros, lists: Sequence[str] | None = None) -> Commit[Agent]:
        """Write where an agent is; of its live sessions it keeps those it lists, without a list all."""
        return self._write(lambda c: registration.register(c, agent, now, lists))

    def heartbeat_agent(
        self,
        pool: PoolId,
        id: AgentId,
        epoch: int,
        now: Micros,
        *,
        nonce: str | None = None,
        says: AgentState | None = None,
    ) -> Commit[Agent]:
        """Note that an agent is alive; its row in the answer tells it of a new session."""
        return self._write(lambda c: agents.heartbeat(c, pool, id, epoch, now, nonce=nonce, says=says))

    def release_agent(
        self, pool: PoolId, id: AgentId, epoch: int, now: Micros, session: SessionId | None = None
    ) -> Commit[Agent]:
        """An agent gives up its lease of one session or of all, which ends them."""
        return self._write(lambda c: sessions.release_agent(c, pool, id, epoch, now, session))

    def cordon_agent(self, pool: PoolId, id: AgentId, on: bool, *, actor: str, now: Micros) -> Commit[Agent]:
        """Let an agent keep what it holds and take no more, or let it take sessions again."""
        return self._write(lambda c: agents.cordon(c, pool, id, on, actor=actor, now=now))

    def agent_leases(self, ids: Sequence[AgentId]) -> Mapping[AgentId, tuple[tuple[SessionId, int], ...]]:
        """What each agent holds: sessions, and legs by their names, with the epochs of the leases."""
        return self._read(lambda c: {id: agents.leases(c, id) for id in ids})

    def agents(self, pool: PoolId) -> tuple[Agent, ...]:
        """Return the agents of a pool."""
        return self._read(lambda c: agents.of_pool(c, pool))

    def agent(self, id: AgentId) -> Agent | None:
        """Return one agent."""
        return self._read(lambda c: agents.get(c, id))

    def expire_agents(
        self, seen_before: Micros, now: Micros, suspect_before: Micros | None = None
    ) -> Commit[tuple[Agent, ...]]:
        """Declare silent agents suspect or lost, and end the states whose time is over; the result is the lost."""
        return self._write(lambda c: agents.advance(c, seen_before, now, suspect_before))

    # --- sessions ----------------------------------------------------------------------------------------------------

    def start_session(
        self,
        session: Session,
        hubs: Sequence[DataCenterId],
        *,
        idempotency_key: str | None,
        request_hash: bytes,
        now: Micros,
    ) -> Commit[Session | None]:
        """Take an agent in the first hub that has one and write the session; None if none has."""
        return self._write(
            lambda c: sessions.start(
                c, session, hubs, idempotency_key=idempotency_key, request_hash=request_hash, now=now
            )
        )

    def exchange(self, starts: Sequence[Start], ends: Sequence[End], now: Micros) -> Commit[Exchanged]:
        """End and start many sessions in one transaction; each has an answer of its own, see ``store.takes``."""
        return self._write(lambda c: exchange.exchange(c, starts, ends, now), batch=True)

    def replayed(self, idempotency_key: str, request_hash: bytes, now: Micros) -> Commit[Session | None]:
        """Return the session that this very request has started before, if it has."""
        return self._write(lambda c: Commit(sessions.replayed_session(c, idempotency_key, request_hash, now)))

    def session(self, id: SessionId) -> Session | None:
        """Return one session."""
        return self._read(lambda c: sessions.get(c, id))

    def sessions(
        self,
        *,
        data_center: DataCenterId | None = None,
        state: SessionState | None = None,
        client: str | None = None,
        pool: PoolId | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[Session, ...]:
        """Return sessions in id order; ``client`` is the text of a prefix, an ASN, or a country."""
        return self._read(
            lambda c: session_queries.find(
                c,
                data_center=data_center,
                state=state,
                client=client,
                pool=pool,
                metadata=metadata,
                limit=limit,
                after=after,
            )
        )

    def session_events(self, id: SessionId) -> tuple[Event, ...]:
        """Return a session's life, oldest first."""
        return self._read(lambda c: session_queries.trail(c, id))

    def rebind_session(self, asked: Rebind, now: Micros) -> Commit[Session]:
        """Place a live session anew under the next epoch."""
        return self._write(lambda c: rebinds.rebind(c, asked, now))

    def rebind_sessions(self, asked: Sequence[Rebind], now: Micros) -> Commit[Rebound]:
        """Place many live sessions anew in one transaction; each has an answer of its own."""
        return self._write(lambda c: rebinds.rebind_many(c, asked, now))

    def sighted(self, ids: Sequence[SessionId]) -> Sequence[Sighted | None]:
        """Return these sessions with their legs and where their agents are reached; None for one that is not there."""
        return self._read(lambda c: rebinds.sighted(c, ids))

    def heartbeats(self, beats: Sequence[Beat], now: Micros) -> Commit[tuple[Heard | InputRejected, ...]]:
        """Apply heartbeats of media nodes in one transaction; each has an answer of its own."""
        return self._write(lambda c: heartbeats.touch_many(c, beats, now))

    def leaving(self, nodes: Sequence[NodeId]) -> Mapping[NodeId, tuple[Session, ...]]:
        """Return what some nodes must let go of; nodes that need not are left out."""

        def find(c: Connection) -> Mapping[NodeId, tuple[Session, ...]]:
            return {node: heartbeats.leaving(c, node) for node in sorted(departures.busy_nodes(c, nodes))}

        return self._read(find)

    def end_session(self, id: SessionId, *, reason: str, now: Micros) -> Commit[Session]:
        """End a session and free its agent."""
        return self._write(lambda c: sessions.end(c, id, reason=reason, now=now))

    def expire_sessions(self, now: Micros) -> Commit[tuple[Session, ...]]:
        """End sessions and legs whose lease is over; some thousand at a time, so ask until there are none."""
        return self._write(lambda c: sessions.expire(c, now))

    def forget_old(self, now: Micros) -> Commit[None]:
        """Forget idempotency keys and errands that are too old."""

        def forget(connection: Connection) -> Commit[None]:
            sessions.forget_old(connection, now)
            return Commit(None)

        return self._write(forget)

    def forget_ended(self, before: Micros) -> Commit[int]:
        """Delete some of what is known of sessions that ended before a moment; 0 when nothing is left."""
        return self._write(lambda c: Commit(sessions.forget_ended(c, before)))

    def roll_back_moves(self, now: Micros, unheard: Sequence[NodeId] = ()) -> Commit[tuple[Session, ...]]:
        """Take back moves whose users did not arrive in time, but for those from or to the nodes ``unheard``."""
        return self._write(lambda c: sessions.roll_back(c, now, unheard))

    # --- further legs of a session -----------------------------------------------------------------------------------

    def add_leg(
        self, leg: Leg, hubs: Sequence[DataCenterId], *, idempotency_key: str | None, request_hash: bytes, now: Micros
    ) -> Commit[Leg | None]:
        """Write a leg of a live session, with an agent if it asks for a pool; None if no agent is free."""
        return self._write(
            lambda c: legs.add(c, leg, hubs, idempotency_key=idempotency_key, request_hash=request_hash, now=now)
        )

    def end_leg(self, session: SessionId, id: LegId, *, reason: str, now: Micros) -> Commit[Leg]:
        """End a leg and free its agent."""
        return self._write(lambda c: legs.end(c, session, id, reason=reason, now=now))

    def legs(self, session: SessionId) -> tuple[Leg, ...]:
        """Return the legs of a session, oldest first, ended ones too."""
        return self._read(lambda c: legs.of_session(c, session))

    def legs_of(self, ids: Sequence[SessionId]) -> Mapping[SessionId, tuple[Leg, ...]]:
        """Return the legs of many sessions; those without any are left out."""
        return self._read(lambda c: legs.of_sessions(c, ids))

    def leg(self, session: SessionId, id: LegId) -> tuple[Leg, Session] | None:
        """Return a leg, and its form as a session."""

        def find(c: Connection) -> tuple[Leg, Session] | None:
            leg, parent = legs.get(c, session, id), sessions.get(c, session)
            return None if leg is None or parent is None else (leg, legs.as_session(leg, parent))

        return self._read(find)

    def movable(self, data_center: DataCenterId, limit: int, node: NodeId | None = None) -> tuple[Session, ...]:
        """Return live sessions placed on an edge, or on one machine of it, oldest first."""
        return self._read(lambda c: session_queries.movable(c, data_center, limit, node))

    def count_on(self, data_center: DataCenterId, node: NodeId | None = None) -> int:
        """Return how many live sessions are placed on an edge, or a machine of it, or have not left it yet."""
        return self._read(lambda c: session_queries.count_on(c, data_center, node))

    def count_leaving(self, data_center: DataCenterId, node: NodeId | None = None) -> int:
        """Return how many live sessions are being moved off an edge, or a machine of it, and have not arrived."""
        return self._read(lambda c: session_queries.count_leaving(c, data_center, node))

    @property
    def shared(self) -> bool:
        """Whether other control planes may use this database at the same time."""
        return not self._database.sqlite

    def counters(self) -> Counters:
        """Count sessions and agents anew."""
        return self._read(count_all)

    def pin(self) -> Pinned:
        """What is there now, for counting it later."""
        return Pinned(self._database)

    def flows(self) -> Mapping[Flow, int]:
        """Count live sessions with an agent per edge, agent's data center and class."""
        return self._read(session_queries.flows)

    def on_nodes(self) -> Mapping[NodeId, Fits]:
        """Count live sessions, and places of agents, per machine."""
        return self._read(machines.on_nodes)

    # --- waiting for agents ------------------------------------------------------------------------------------------

    def waiting(self) -> Mapping[PoolId, tuple[Session, ...]]:
        """Return the oldest sessions that wait for an agent, per pool."""
        return self._read(queue.waiting)

    def queue_lengths(self) -> Mapping[PoolId, int]:
        """Count the sessions that wait per pool."""
        return self._read(queue.lengths)

    def queue_position(self, session: Session) -> int:
        """Return a waiting session's place in its queue, from 1."""
        return self._read(lambda c: queue.position(c, session))

    def dispatch(self, pool: PoolId, offers: Sequence[queue.Offer], now: Micros) -> Commit[tuple[Session, ...]]:
        """Bind waiting sessions of a pool in the order given, as far as agents go."""
        return self._write(lambda c: queue.dispatch(c, pool, offers, now))

    def tend_pools(self, now: Micros) -> Commit[tuple[Session, ...]]:
        """End what has lasted long enough in pools and queues; the result is the sessions refused."""
        return self._write(lambda c: queue.tend(c, now))

    def orphans(self, now: Micros) -> tuple[queue.Orphan, ...]:
        """Return live sessions that need another agent now."""
        return self._read(lambda c: queue.orphans(c, now))

    def redispatch(
        self, orphan: queue.Orphan, hubs: Sequence[DataCenterId], reasons: Sequence[str], now: Micros
    ) -> Commit[Session | None]:
        """Give a session another agent; None if none is free or it needs none."""
        return self._write(lambda c: queue.redispatch(c, orphan, hubs, reasons, now))

    def rebounds(self) -> tuple[queue.Rebound, ...]:
        """Return sessions whose edges have not confirmed their new agents."""
        return self._read(queue.rebounds)

    def confirm_rebound(self, node: NodeId, ids: Sequence[SessionId], now: Micros) -> Commit[None]:
        """A node follows its sessions to their new agents."""
        del now  # a confirmation has no time of its own
        return self._write(lambda c: queue.confirm(c, node, ids))

    def agent_places(self) -> tuple[Places, ...]:
        """Count agents and their places per pool, data center and state."""
        return self._read(agents.places)

    # --- drains ------------------------------------------------------------------------------------------------------

    def put_drain(
        self,
        drain: Drain,
        intents: Mapping[DataCenterId, Intent],
        *,
        actor: str,
        now: Micros,
        nodes: Mapping[NodeId, Intent] | None = None,
        ended: Sequence[Drain] = (),
        begun: Sequence[Ramp] = (),
    ) -> Commit[Drain]:
        """Write a drain, decided on its ``revision`` (0: new), its targets' intents, what it takes over and begins."""
        return self._write(
            lambda c: drains.put(c, drain, intents, actor=actor, now=now, nodes=nodes, ended=ended, begun=begun)
        )

    def cut_agents(
        self, data_center: DataCenterId, reason: str, now: Micros, node: NodeId | None = None
    ) -> Commit[int]:
        """Part the agents of a data center, or of one machine of it, from their sessions; the result is how many."""
        return self._write(lambda c: cuts.cut(c, data_center, reason, now, node))

    def put_ramp(self, ramp: Ramp, intents: Mapping[DataCenterId, Intent], *, actor: str, now: Micros) -> Commit[Ramp]:
        """Write a ramp, decided on its ``revision`` (0: new), and the intent of its data center if that changes."""
        return self._write(lambda c: ramps.put(c, ramp, intents, actor=actor, now=now))

    def drains(self) -> tuple[Drain, ...]:
        """Return all drains, oldest first."""
        return self._read(drains.every)

    # --- soft things worth keeping -----------------------------------------------------------------------------------

    def append_history(self, rows: Sequence[AppendHistory]) -> None:
        """Write roll-ups."""
        self._write(lambda c: history.append(c, rows))

    def history(self, source: DataCenterId, *, since: Micros, until: Micros) -> tuple[AppendHistory, ...]:
        """Return the roll-ups of a source with ``since`` <= bucket_at < ``until``."""
        return self._read(lambda c: history.find(c, source, since=since, until=until))

    def append_route_changes(self, changes: Sequence[RouteChange]) -> None:
        """Write route changes."""
        self._write(lambda c: history.append_changes(c, changes))

    def route_changes(
        self, source: DataCenterId, target: DataCenterId, *, since: Micros, until: Micros, limit: int = 1_000
    ) -> tuple[RouteChange, ...]:
        """Return the newest ``limit`` route changes of a pair with ``since`` <= at < ``until``, oldest first."""
        return self._read(lambda c: history.find_changes(c, source, target, since=since, until=until, limit=limit))

    def thin_history(self, before: Micros) -> None:
        """Forget roll-ups and route changes older than ``before``."""
        self._write(lambda c: history.thin(c, before))

    def save_table(self, table: bytes) -> None:
        """Keep the last route table for the next start."""
        self._write(lambda c: boot.save_table(c, table))

    def record(self, new: Sequence[Event]) -> None:
        """Write events."""
        self._write(lambda c: events.append(c, new))

    def events(
        self,
        *,
        since: Micros | None = None,
        until: Micros | None = None,
        kind: str | None = None,
        subject: str | None = None,
        limit: int = 200,
        before_id: int | None = None,
        after_id: int | None = None,
    ) -> tuple[tuple[int, Event], ...]:
        """Return numbered events, newest first; ``kind`` ``session`` also finds ``session.started``."""
        return self._read(
            lambda c: events.find(
                c,
                since=since,
                until=until,
                kind=kind,
                subject=subject,
                limit=limit,
                before_id=before_id,
                after_id=after_id,
            )
        )
