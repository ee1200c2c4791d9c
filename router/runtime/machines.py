"""Bought machines: rows first, then the provider, then what it said as rows again; one thing at a time for each.

Whatever happens to this process in between, the row says how far it had come, and asking the provider again under the
same key is harmless. What a provider refuses for good is a row as well, and the core answers it in the same instant.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from providers.base import CloudError, Machine, NotOurs, Order, State, Transient
from providers.bootstrap import Bootstrap, user_data
from providers.reaper import Booked
from router.access import JoinToken, join_token_hash, join_token_text
from router.core.capacity import Launch, LaunchId, LaunchState, Refusal
from router.core.capacity.machines import OPEN, begin, step
from router.core.errors import InputRejected
from router.core.messages import AnnounceLaunches, DriveLaunch, OpenAgents, Priced, StepLaunch, StockTaken
from router.core.model import DataCenterId, NodeId, PoolId
from router.core.steering import Placement, PlaceRequest, place

if TYPE_CHECKING:
    from router.runtime.clouds import Clouds
    from router.runtime.shell import Runtime

log = structlog.get_logger("tendril.machines")
US = "tendril"
LATE_US = 120_000_000  # a cloud may make a machine this long after its answer was lost; then the reaper looks
_REFUSALS = {refusal.value: refusal for refusal in Refusal} | {"conflict": Refusal.TRANSIENT}


class Machines:
    """What is under way about bought machines."""

    def __init__(self, runtime: Runtime, clouds: Clouds | None) -> None:
        self._runtime = runtime
        self._clouds = clouds
        self._under_way: set[LaunchId] = set()
        self._next: dict[LaunchId, DriveLaunch | StepLaunch | OpenAgents] = {}
        self._unserved: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()  # by provider and kind
        self.reaped = 0

    # --- counting ----------------------------------------------------------------------------------------------------

    def unserved(self, wanted: PlaceRequest) -> None:
        """Note that a session found no agent; it is demand all the same, at the edge it would have got."""
        if self._clouds is None or wanted.pool is None:
            return  # nothing could be bought for it
        decision = place(self._runtime.view, replace(wanted, edge_only=True, cap_factor=math.inf), self._runtime.now())
        if isinstance(decision, Placement):
            self._unserved[wanted.pool, decision.edges[0].data_center] += 1

    async def count(self) -> None:
        """Tell the core what there is."""
        launches = self._runtime.view.launches.values()
        nodes = [one.node for one in launches if one.open]
        canaries = {one.node: one.id for one in launches if one.state is LaunchState.CANARY}
        places, queued, on_nodes = await self._runtime.read(lambda store: store.launches.stock(nodes))
        arms = self._runtime.arms
        arms.on_canaries = await self._runtime.read(lambda s: s.launches.agents_on(canaries)) if canaries else {}
        unserved, self._unserved = self._unserved, Counter()
        self._runtime.post(StockTaken(places, queued, dict(sorted(unserved.items())), on_nodes))

    async def price(self) -> None:
        """Tell the core what providers say of prices and quotas."""
        found: Priced | None = None if self._clouds is None else await self._clouds.prices()
        if found is not None:
            self._runtime.post(found)

    async def reap(self) -> None:
        """Find machines whose launch was answered by nobody."""
        if self._clouds is None:
            return
        by_provider: dict[str, list[Launch]] = {}
        for launch in self._runtime.view.launches.values():
            by_provider.setdefault(launch.provider, []).append(launch)
        for provider in sorted(by_provider.keys() & self._clouds.purchasing.providers.keys()):
            await self._reap(self._clouds, provider, by_provider[provider])

    async def _reap(self, clouds: Clouds, provider: str, launches: list[Launch]) -> None:
        books = {one.id: Booked(one.open and one.state is not LaunchState.TERMINATING, one.machine) for one in launches}
        try:
            found = await clouds.reaped(provider, {str(id): book for id, book in books.items()})
        except CloudError as error:
            log.warning("reaping_failed", provider=provider, code=error.code, error=str(error))
            return
        self.reaped += len(found.terminated)
        for machine in found.terminated:
            log.warning("machine_reaped", provider=provider, machine=machine.id, launch=machine.launch_key)
        for stranger in found.strangers:
            log.warning("strange_machine", provider=provider, machine=stranger.id, launch=stranger.launch_key)
        for machine in found.adopted:
            launch = self._runtime.view.launches.get(LaunchId(machine.launch_key or ""))
            if launch is not None and launch.state is LaunchState.REQUESTED and launch.id not in self._under_way:
                await self._step(launch, "accepted", "found by the reaper after a lost answer", machine=machine.id)

    # --- effects -----------------------------------------------------------------------------------------------------

    def carry_out(self, effect: AnnounceLaunches | DriveLaunch | StepLaunch | OpenAgents) -> None:
        """Do what the core asks for beside everything else."""
        if isinstance(effect, AnnounceLaunches):
            self._runtime.beside(self._announce(effect))
            return
        id = effect.launch.id if isinstance(effect, DriveLaunch) else effect.launch
        if id in self._under_way:
            self._next[id] = effect  # the newest: it knows of what is being done now
            return
        self._under_way.add(id)
        self._runtime.beside(self._guarded(effect, id))

    async def _announce(self, effect: AnnounceLaunches) -> None:
        now, new = self._runtime.now(), []
        for draft in effect.drafts:
            key = secrets.token_hex(6)
            node = NodeId(f"{draft.data_center[:48].rstrip('-')}-{key}")
            new.append(begin(draft, LaunchId(f"l-{key}"), node, now))
        await self._runtime.commit(lambda store: store.launches.announce(new, actor=US, now=now))

    async def _guarded(self, effect: DriveLaunch | StepLaunch | OpenAgents, id: LaunchId) -> None:
        try:
            held = self._runtime.view.launches.get(id)
            if held is None:
                return
            if isinstance(effect, DriveLaunch):
                await self._drive(held)
            elif isinstance(effect, OpenAgents):
                await self._runtime.commit(lambda store: store.launches.open_agents(id, effect.agents))
            elif held.revision == effect.revision:
                await self._step(held, effect.step, effect.reason, refusal=_refusal_of(effect.step, held))
        except InputRejected as error:  # somebody else was faster; the next count looks again
            log.info("launch_changed_meanwhile", launch=id, code=error.code)
        finally:
            self._under_way.discard(id)
            after = self._next.pop(id, None)
            if after is not None:
                self.carry_out(after)

    async def _drive(self, launch: Launch) -> None:
        """What the state of a launch asks a provider for."""
        if self._clouds is None or launch.provider not in self._clouds.purchasing.providers:
            return  # its provider is no longer in the purchasing file: a person has to see to it
        match launch.state:
            case LaunchState.ANNOUNCED | LaunchState.REQUESTED:
                await self._ask(self._clouds, launch)
            case LaunchState.TERMINATING:
                await self._take_back(self._clouds, launch)
            case LaunchState.GONE:
                await self._forget_node(launch)
            case _:
                await self._look(self._clouds, launch)

    async def _ask(self, clouds: Clouds, launch: Launch) -> None:
        asked = await self._step(launch, "asked", launch.reason, tries=launch.tries + 1)
        try:
            machine = await clouds.launch(asked.provider, await self._order(clouds, asked))
        except Transient as error:
            if error.outcome_unknown:
                await self._step(asked, "answer_lost", str(error))
            else:
                await self._refused(asked, error)
            return
        except CloudError as error:
            await self._refused(asked, error)
            return
        after = await self._step(asked, "accepted", f"{asked.provider} makes {machine.id}", machine=machine.id)
        await self._told(after, machine)

    async def _refused(self, launch: Launch, error: CloudError) -> None:
        kind = _REFUSALS.get(error.code, Refusal.TRANSIENT)
        self.refusals[launch.provider, kind.value] += 1
        await self._step(launch, "refused", str(error), refusal=kind.value)

    async def _order(self, clouds: Clouds, launch: Launch) -> Order:
        """What the provider is asked for: the same machine, with the same token, however often."""
        boot = clouds.purchasing.bootstrap
        token = await self._token(launch)
        script = user_data(
            Bootstrap(
                node=launch.node, control_url=boot.control_url, join_token=token, install=boot.install,
                options=boot.options, run=boot.run,
                about={
                    "TENDRIL_POOL": launch.pool, "TENDRIL_DATA_CENTER": launch.data_center,
                    "TENDRIL_LAUNCH": launch.id, "TENDRIL_AGENTS": str(launch.agents),
                },
            )
        )  # fmt: skip
        tags = {"pool": launch.pool[:32].rstrip("-")}
        return Order(launch.id, launch.region[:32], launch.cloud_region, launch.size, launch.zone, script, tags)

    async def _token(self, launch: Launch) -> str:
        """The single-use token of a machine; until it is used, the same one again."""
        runtime, seed = self._runtime, secrets.token_bytes(32)
        now = runtime.now()
        text = join_token_text(runtime.secret, launch.data_center, seed)
        expires_at = now + runtime.options.buying.join_s * 1_000_000
        wanted = JoinToken(join_token_hash(text), launch.data_center, now, expires_at, seed=seed)
        made = await runtime.commit(lambda store: store.add_join_token(wanted, f"launch:{launch.id}", actor=US))
        assert made.seed is not None, "an unused token of a name has its seed"
        return join_token_text(runtime.secret, launch.data_center, made.seed)

    async def _look(self, clouds: Clouds, launch: Launch) -> None:
        if launch.machine is None:
            return
        try:
            machine = await clouds.look(launch.provider, launch.machine)
        except CloudError as error:
            log.warning("machine_not_seen", launch=launch.id, code=error.code, error=str(error))
            return
        held = self._runtime.view.launches.get(launch.id)
        if held is None or held.state not in OPEN:
            return
        if machine is None:
            await self._step(held, "vanished", f"{held.provider} knows no machine {held.machine} any more")
        else:
            await self._told(held, machine)

    async def _told(self, launch: Launch, machine: Machine) -> None:
        """Take in what the provider says of a machine."""
        if machine.state is State.RUNNING and launch.state is LaunchState.PENDING:
            await self._step(launch, "runs", f"{launch.provider} says that {machine.id} runs")
        elif machine.state in (State.FAILED, State.STOPPED) and launch.state is not LaunchState.TERMINATING:
            await self._step(launch, "broken", f"{launch.provider} says that {machine.id} is {machine.state.value}")

    async def _take_back(self, clouds: Clouds, launch: Launch) -> None:
        try:
            found = await clouds.take_back(launch.provider, launch.id, launch.machine)
        except NotOurs as error:
            await self._step(launch, "not_ours", str(error))
            return
        except CloudError as error:
            log.warning("machine_not_taken_back", launch=launch.id, code=error.code, error=str(error))
            return  # it is asked again until it is gone
        if found or launch.machine or self._runtime.now() - launch.since >= LATE_US:
            await self._step(launch, "terminated", f"{launch.provider} has taken it back")

    async def _forget_node(self, launch: Launch) -> None:
        """Remove the node of a machine that is gone, once nothing hangs on it."""
        now = self._runtime.now()
        await self._runtime.commit(lambda store: store.delete("nodes", launch.node, if_match=None, actor=US, now=now))

    async def _step(self, launch: Launch, event: str, reason: str, **facts: str | int | None) -> Launch:
        now = self._runtime.now()
        after = step(launch, event, reason, now, **facts)
        return await self._runtime.commit(lambda store: store.launches.put(after, actor=US, now=now))


def _refusal_of(event: str, launch: Launch) -> str:
    """What an offer is held to blame for when its machine was of no use."""
    known = {"overdue": Refusal.NEVER_JOINED, "bad": Refusal.BAD_CANARY}
    return known[event].value if event in known else launch.refusal
