"""The operations of histories: what users, agents, operators and faults do, and how calm comes back."""

from __future__ import annotations

from dataclasses import replace

from bench.histories import climbs, place
from bench.histories.history import History, Operation
from bench.histories.place import STRICT
from router.core import drain as drains
from router.core import pools as life
from router.core import steering
from router.core.dial import USER_LABEL
from router.core.errors import InputRejected, TendrilError
from router.core.messages import (
    AdvanceDrain,
    CutAgents,
    Effect,
    FinishDrain,
    MoveSessions,
)
from router.core.model import (
    Agent,
    AgentState,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainOrigin,
    DrainState,
    Intent,
    Micros,
    NodeId,
    ProviderId,
    RegionId,
    Selector,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.core.tables import DataCenterHealth, Dial, Health, View

LEASE_US, GRACE_US = 30_000_000, 60_000_000
NODE_US = 40_000_000
ROUNDS, MOST_ROUNDS = 8, 64  # until all is calm


# --- sessions --------------------------------------------------------------------------------------------------------


def ask(h: History) -> None:
    """A user calls; one who finds no agent of a pool with a queue waits for one."""
    h.sessions += 1
    user, pool = h.random.randrange(40), h.random.choice((*place.POOLS, STRICT, None))
    session = Session(
        SessionId(f"s-{h.sessions}"), SessionState.ATTACHING, TrafficClass.AGENT, h.random.choice(h.clients),
        DataCenterId(""), None, (), 1, h.now, h.now + LEASE_US, pool, metadata={USER_LABEL: f"u-{user}"},
    )  # fmt: skip
    decision = h.place(h.request(session))
    if isinstance(decision, steering.Refused):
        if pool is STRICT and decision.code == "no_idle_agent":
            _queue(h, session)
        return
    best = decision.edges[0]
    placed = replace(session, edge=best.data_center, edge_node=best.node, edges=_edges(decision))
    started, changes = h.rows.start(placed, decision.hubs)
    h.commit(changes)
    if started is not None and h.random.random() < 0.7:
        h.commit(h.rows.attach(started.id, best.node, h.now))


def _queue(h: History, session: Session) -> None:
    decision = h.place(h.request(session, edge_only=True))
    if isinstance(decision, steering.Placement):
        best = decision.edges[0]
        waiting = replace(session, state=SessionState.QUEUED, edge=best.data_center, edges=_edges(decision))
        h.commit(h.rows.queue(waiting))


def _edges(decision: steering.Placement) -> tuple[DataCenterId, ...]:
    return tuple(edge.data_center for edge in decision.edges)


def dispatch(h: History) -> None:
    """A session that waits gets an agent."""
    session = h.one_of((SessionState.QUEUED,))
    if session is not None:
        hubs = steering.hubs_from(h.view, h.request(session), session.edge)
        h.commit(h.rows.dispatch(session.id, hubs, h.now + LEASE_US, h.now)[1])


def attach(h: History) -> None:
    """A user arrives where it is expected."""
    session = h.one_of()
    if session is None:
        return
    try:
        h.commit(h.rows.attach(session.id, _node(h, session.edge), h.now))
    except InputRejected as error:
        h.rules.want(error.code == "bad_transition" and session.state is SessionState.QUEUED, f"attach: {error.code}")


def _node(h: History, edge: DataCenterId) -> NodeId:
    return h.rows.inventory.nodes_by_data_center[edge][0].id


def detach(h: History) -> None:
    """A user's connection breaks."""
    session = h.one_of((SessionState.ACTIVE, SessionState.MOVING, SessionState.DETACHED))
    if session is not None:
        h.commit(h.rows.detach(session.id, h.now + GRACE_US))


def resume(h: History) -> None:
    """A user comes back; now and then with a token that is older than the row."""
    session = h.one_of((SessionState.ATTACHING, SessionState.ACTIVE, SessionState.MOVING, SessionState.DETACHED))
    if session is None:
        return
    decision = h.place(h.request(session, sticky=session.edge, agent_data_center=session.agent_data_center))
    if isinstance(decision, steering.Refused):
        return
    rebind(h, session, "resumed", decision, h.random.randrange(5) == 0)


def rebind(h: History, session: Session, event: str, decision: steering.Placement, stale: bool) -> None:
    """Place a session anew; a stale epoch must be fenced."""
    best = decision.edges[0]
    try:
        new, changes = h.rows.rebind(
            session.id, event, expect_epoch=session.epoch - stale, edge=best.data_center, edge_node=best.node,
            edges=_edges(decision), lease_expires_at=h.now + LEASE_US, moved_from=session.edge,
        )  # fmt: skip
    except InputRejected as error:
        h.rules.want(stale and error.code == "fenced", f"{event} was refused: {error.code}")
        return
    h.rules.want(not stale, "a token of an older epoch was taken")
    h.rules.want(new.epoch == session.epoch + 1, "an epoch did not rise by one")
    h.rules.want(new.agent == session.agent, f"{event} took another agent")
    h.commit(changes)


def end(h: History) -> None:
    """A user hangs up."""
    session = h.one_of()
    if session is not None:
        h.commit(h.rows.end(session.id, "ended", h.now))


def expire(h: History) -> None:
    """Time goes by: leases end, moves are taken back, nodes are heard or not."""
    h.now += h.random.randrange(0, 60_000_000)
    for node in list(h.rows.inventory.nodes):
        if h.random.random() < 0.5:
            h.rows.renew(node, h.now + NODE_US)
    h.commit(h.rows.roll_back(h.now)[1])
    held = {s.id for s in h.rows.live() if s.held_by is not None and h.rows.node_leases.get(s.held_by, 0) > h.now}
    ended, changes = h.rows.expire(h.now)
    h.rules.want(not any(s.id in held for s in ended), "a session was ended while its node held it")
    h.commit(changes)


# --- agents ----------------------------------------------------------------------------------------------------------

_COMES_UP = ("announced", "warming", "ready", "unattested", "retired")  # a process that does not list what it held
_HAPPENS = (*_COMES_UP, "silent", "heard", "lost", "wrapped", "overdue", "adopted")
_CAN = {state: tuple(event for event in _HAPPENS if (state, event) in life.AGENT_TRANSITIONS) for state in AgentState}


def agent_event(h: History) -> None:
    """Something happens to an agent: one that holds sessions, one in a state that few are in, or any."""
    agent = h.some_agent()
    draw = h.random.random()
    if draw < 0.4:
        agent = h.random.choice([a for a in h.rows.agents.values() if a.held] or [agent])
    elif draw < 0.8:
        state = h.random.choice(tuple(dict.fromkeys(a.state for a in h.rows.agents.values())))
        agent = h.random.choice([a for a in h.rows.agents.values() if a.state is state])
    event = h.random.choice(_CAN[agent.state])
    if event == "adopted":  # it may have another size now
        agent = replace(agent, capacity=h.random.randrange(max(1, agent.held), 4))
    if event in ("heard", "adopted") and agent.held >= agent.capacity:
        event += "_full"
    if event in _COMES_UP:
        h.commit(h.rows.part(agent.id))
    elif event.startswith("adopted"):
        h.commit(h.rows.put_agents([agent]))
    h.commit(h.rows.step_agent(agent.id, event, h.now))
    after = h.rows.agents[agent.id]
    h.rules.want(not after.held or life.STANDINGS[after.state].holds or after.state is AgentState.LOST,
                 f"{event} took an agent that holds sessions to {after.state.value}")  # fmt: skip


def replace_lost(h: History) -> None:
    """Sessions whose agent is lost get another one."""
    for session in h.rows.live():
        agent = None if session.agent is None else h.rows.agents.get(session.agent)
        alone = session.pool is not None if agent is None else agent.state is AgentState.LOST
        if alone and session.state is not SessionState.QUEUED:
            hubs = steering.hubs_from(h.view, h.request(session), session.edge)
            h.commit(h.rows.redispatch(session.id, hubs, h.now)[1])
            return


def scale_down(h: History) -> None:
    """A pool shrinks by an agent that may go, and grows by one of the same name that registers."""
    agent = h.some_agent()
    try:
        h.commit(h.rows.forget_agent(agent.id))
    except InputRejected:
        return
    h.rules.killed(agent, h.rows)
    h.commit(h.rows.put_agents([Agent(agent.id, agent.pool, agent.data_center, capacity=agent.capacity,
                                      state=AgentState.ANNOUNCED, epoch=agent.epoch + 1)]))  # fmt: skip


def cordon_agent(h: History) -> None:
    """An agent takes no more sessions, or takes them again."""
    agent = h.some_agent()
    h.commit(h.rows.put_agents([replace(agent, cordoned=not agent.cordoned)]))


# --- operators -------------------------------------------------------------------------------------------------------


def _selector(h: History) -> Selector:
    dc = h.rows.inventory.data_centers[h.some_place()]
    return h.random.choice((
        Selector(data_center=dc.id), Selector(data_center=dc.id), Selector(data_center=dc.id),
        Selector(provider=ProviderId(dc.provider)), Selector(region=RegionId(dc.region)),
        Selector(provider=dc.provider, region=dc.region), Selector(node=NodeId(f"{dc.id}-0")),
        Selector(), Selector(provider=ProviderId("nobody")),
    ))  # fmt: skip


def open_drain(h: History) -> None:
    """An operator drains something."""
    random = h.random
    request = drains.DrainRequest(
        _selector(h), random.choice(tuple(DrainMode)), "history",
        deadline_s=random.choice((None, 1, 5, 30)), force=random.random() < 0.15,
        stage_s=random.choice((None, 0, 1, 30)),
        origin=random.choice((DrainOrigin.OPERATOR, DrainOrigin.OPERATOR, DrainOrigin.PRACTICE, DrainOrigin.AUTOMATIC)),
    )  # fmt: skip
    try:
        plan = drains.preflight(h.view, request, h.now)
        h.rules.same(plan, drains.preflight(h.again(), request, h.now))
        id = DrainId(f"d-{len(h.rows.drains) + 1}")
        drain, intents = drains.open_drain(h.view, request, plan, id, "history", h.now)
        ended, restored = drains.taken_over(h.view, request, plan, h.now)
    except TendrilError as error:
        h.rules.refused(error)
        return
    h.rules.opened(h.view, request, drain)
    nodes = drains.node_intents(h.view.inventory, drain)
    h.commit(h.rows.put_drain(drain, {**restored, **intents}, nodes=nodes, ended=ended))


def step_drain(h: History, event: str) -> None:
    """A step of a drain that an operator asks for."""
    drain = h.some_drain()
    paused = [d for d in h.rows.drains.values() if d.state is DrainState.PAUSED]
    if event == "resume" and paused and h.random.random() < 0.8:
        forcing = [d for d in paused if d.paused_from is DrainState.FORCING]  # as seldom as the state itself
        drain = h.random.choice(forcing or paused)
    if drain is not None:
        take(h, drain.id, event)


def take(h: History, id: DrainId, event: str) -> None:
    """Decide a step on the View, and commit it."""
    try:
        after, intents = drains.step(h.view, id, event, h.now)
    except InputRejected as error:
        h.rules.refused(error)
        return
    h.commit(h.rows.put_drain(after, intents, nodes=drains.node_intents(h.view.inventory, after)))
    h.rules.want(event != "undo" or after.state is DrainState.UNDONE, f"after the undo it is {after.state.value}")
    h.rules.stepped(h.view, h.rows.drains[id])


def tick(h: History) -> None:
    """The core looks at its drains, and what it wants is done."""
    for drain in sorted(h.rows.drains.values(), key=lambda d: d.id):
        for effect in drive(h.view, drain, h.now):
            carry_out(h, effect)
    climbs.look(h)


def second(h: History) -> None:
    """A second goes by; who sees a drain cut agents, which lasts until the next one, may still step in."""
    tick(h)
    if h.random.random() < 0.7 and any(d.state is DrainState.FORCING for d in h.rows.drains.values()):
        step_drain(h, h.random.choice(("pause", "undo")))


def drive(view: View, drain: Drain, now: Micros) -> list[Effect]:
    """What a drain wants now."""
    return drains.drive(view, drain, now)


def carry_out(h: History, effect: Effect) -> None:
    """What the shell does with an effect of a drain."""
    match effect:
        case FinishDrain():
            if not h.rows.left_on(h.rows.drains[effect.drain]):
                take(h, effect.drain, "empty")
        case AdvanceDrain():
            take(h, effect.drain, effect.step)
        case MoveSessions():
            move(h, effect)
        case CutAgents():
            h.commit(h.rows.cut(effect.data_center, h.now))
        case _:
            pass


def move(h: History, effect: MoveSessions) -> None:
    """Move some sessions, with their agents."""
    away = (effect.data_center,) if effect.node is None else ()
    for session in h.rows.movable(effect.data_center, effect.limit, effect.node):
        request = h.request(session, exclude=away, agent_data_center=session.agent_data_center)
        if session.state is SessionState.QUEUED:
            request = replace(request, edge_only=True)
        decision = h.place(request)
        if isinstance(decision, steering.Refused):
            h.rules.left(session.id, decision)
            continue
        if effect.node is not None and decision.edges[0].node == effect.node:
            continue  # as the shell does: nothing else is there
        rebind(h, session, "moved", decision, False)
        h.moves += 1


def move_one(h: History) -> None:
    """Somebody moves a session off its edge."""
    session = h.one_of((SessionState.QUEUED,) if h.random.random() < 0.5 else None)
    if session is None:
        return
    more = {"exclude": (session.edge,), "agent_data_center": session.agent_data_center}
    waits = {"edge_only": True} if session.state is SessionState.QUEUED else {}
    decision = h.place(h.request(session, **more, **waits))
    legal = (session.state, "moved") in life.SESSION_TRANSITIONS
    if isinstance(decision, steering.Placement) and legal:
        rebind(h, session, "moved", decision, False)


def intent(h: History) -> None:
    """An operator cordons, retires, or brings back a data center."""
    dc = h.rows.inventory.data_centers[h.some_place()]
    wanted = h.random.choice((Intent.SERVING, Intent.SERVING, Intent.SERVING, Intent.CORDONED, Intent.RETIRED))
    if not any(dc.id in d.targets and d.state is not DrainState.UNDONE for d in h.rows.drains.values()):
        h.commit(h.rows.put([replace(dc, intent=wanted)]))


def capacity(h: History) -> None:
    """An operator changes how much fits."""
    dc = h.rows.inventory.data_centers[h.some_place()]
    h.commit(h.rows.put([replace(dc, capacity_sessions=h.random.choice((0, 2, place.CAPACITY, 40)))]))


def dial(h: History) -> None:
    """A ramp lets a data center take a share of users."""
    dc, share = h.some_place(), h.random.choice((0, 10_000, 100_000, 500_000, 1_000_000))
    h.dials[dc] = Dial(share, "ramp history")
    h.turn_dials()


# --- faults ----------------------------------------------------------------------------------------------------------


def health(h: History) -> None:
    """A data center falls ill, is not heard of, or is well again; now and then all of them at once."""
    state = h.random.choice((Health.UP, Health.UP, Health.UP, Health.DEGRADED, Health.DOWN, Health.UNKNOWN))
    one, everybody = h.random.randrange(len(h.view.health)), h.random.randrange(4) == 0
    fresh = DataCenterHealth(state, h.now, h.now, 5)
    h.view = replace(h.view, health=tuple(fresh if everybody or i == one else s for i, s in enumerate(h.view.health)))


def solve(h: History) -> None:
    """A new generation of routes comes into force."""
    h.count += 1
    table = h.view.routes
    assert table is not None
    h.view = replace(h.view, routes=replace(table, generation=(h.rows.epoch << place.EPOCH_BITS) | h.count))
    h.rules.generation(h.view.generation)


def restart(h: History) -> None:
    """The control plane dies and starts from its rows."""
    if not h.rows.reachable:
        return
    fresh = h.again()
    h.rules.restarted(h.view, fresh)
    h.rows.epoch += 1
    h.count = 0
    h.view = replace(fresh, epoch=h.rows.epoch)
    solve(h)


def outage(h: History) -> None:
    """The database goes away, or comes back."""
    h.rows.reachable = not h.rows.reachable or h.random.random() < 0.7


OPERATIONS = (
    Operation("ask", 24, ask), Operation("attach", 12, attach), Operation("end", 6, end),
    Operation("detach", 5, detach), Operation("resume", 4, resume), Operation("expire", 3, expire),
    Operation("dispatch", 2, dispatch), Operation("agent_event", 14, agent_event),
    Operation("replace_lost", 2, replace_lost), Operation("scale_down", 3, scale_down),
    Operation("cordon_agent", 1, cordon_agent), Operation("open_drain", 6, open_drain),
    Operation("pause", 4, lambda h: step_drain(h, "pause")),
    Operation("resume_drain", 5, lambda h: step_drain(h, "resume")),
    Operation("undo", 2, lambda h: step_drain(h, "undo")), Operation("tick", 9, second), Operation("intent", 2, intent),
    Operation("move_one", 2, move_one),
    Operation("capacity", 1, capacity), Operation("dial", 1, dial), Operation("health", 3, health),
    Operation("begin_ramp", 2, climbs.begin), Operation("push_ramp", 7, climbs.push),
    Operation("solve", 2, solve), Operation("restart", 1, restart), Operation("outage", 1, outage),
)  # fmt: skip
MIXES = (0.2, 1.0, 1.0, 4.0)  # swarm testing (Groce et al., ISSTA 2012): histories that differ reach more states


def finish(h: History) -> None:
    """Calm comes back: nothing may be stuck, and the books must balance."""
    h.rows.reachable = True
    well = DataCenterHealth(Health.UP, h.now, h.now, 5)
    h.view = replace(h.view, health=tuple(well for _ in h.view.health))
    moves, rounds = -1, 0
    while rounds < ROUNDS or (h.moves > moves and rounds < MOST_ROUNDS):  # a tick moves only so many
        moves, rounds = h.moves, rounds + 1
        h.now += GRACE_US + NODE_US
        h.view = replace(h.view, now=h.now)
        h.rules.forget_left()
        tick(h)
        _arrive(h, 0.8)
        h.commit(h.rows.expire(h.now)[1])
    _arrive(h, 1.0)
    h.rules.restarted(h.view, h.again())
    goes_on = [d.id for d in h.rows.drains.values() for e in drive(h.view, d, h.now) if isinstance(e, FinishDrain)]
    climbs.calm(h)
    h.rules.ended(h.view, h.rows, h.now, goes_on)


def _arrive(h: History, share: float) -> None:
    for session in h.rows.live():
        between = session.state in (SessionState.MOVING, SessionState.DETACHED, SessionState.ATTACHING)
        if between and h.random.random() < share:
            h.commit(h.rows.attach(session.id, _node(h, session.edge), h.now))


def play(seed: int, operations: int) -> History:
    """A whole history, with its own mix of operations: what is rare in the usual one is common in some."""
    h = History(seed)
    weights = [operation.weight * h.random.choice(MIXES) for operation in OPERATIONS]
    for operation in h.random.choices(OPERATIONS, weights, k=operations):
        h.play(operation)
    finish(h)
    return h


def replay(seed: int, names: list[str]) -> History:
    """A history of named operations. Raises :class:`ValueError` for a name that there is not."""
    known, h = {operation.name: operation for operation in OPERATIONS}, History(seed)
    for name in names:
        if name not in known:
            raise ValueError(f"no operation {name}; there are {', '.join(known)}")
        h.play(known[name])
    finish(h)
    return h
