"""Agents of pools that do not speak the LiveKit worker protocol: registered, kept alive, released, cordoned, listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import MEDIA, OPERATOR, VIEWER, Endpoint, actor_of, runtime_of, settings_of
from router.api.reply import After, Limit, PathId, listing, page, reply
from router.core.model import Agent, AgentId, AgentState, PoolId, SessionId
from router.runtime import Runtime
from router.schemas.capacity import CapacityList, capacity_json
from router.schemas.pools import (
    AgentAnswer,
    AgentBody,
    AgentList,
    BeatBody,
    RegisteredAnswer,
    ReleaseBody,
    agent_json,
)

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["pools"])
BEATS = 3  # heartbeats that fit into the time after which an agent is suspect


async def _leases(runtime: Runtime, agents: Sequence[Agent]) -> Mapping[AgentId, Sequence[tuple[SessionId, int]]]:
    """What agents hold; of one that holds one session at a time its own row tells."""
    known = {agent.id: ((agent.session, agent.epoch),) for agent in agents if agent.session is not None}
    asked = [agent.id for agent in agents if agent.held and agent.id not in known]
    return known | dict(await runtime.read(lambda store: store.agent_leases(asked)) if asked else {})


async def _answer(runtime: Runtime, agent: Agent) -> dict[str, object]:
    return agent_json(agent, (await _leases(runtime, [agent])).get(agent.id, ()))


@endpoints.post("/pools/{pool}/agents", response_model=RegisteredAnswer, dependencies=[Depends(MEDIA)])
async def register_agent(request: Request, pool: PathId, body: AgentBody) -> Response:
    """Offer an agent, or take up the leases it still has; registering again is harmless."""
    runtime, settings = runtime_of(request), settings_of(request)
    agent = body.core(PoolId(pool), runtime.now())
    done = await runtime.commit(lambda store: store.register_agent(agent, runtime.now(), body.sessions))
    leases = (await _leases(runtime, [done])).get(done.id, ())
    drop = sorted(set(body.sessions or ()) - {id for id, _ in leases})
    period_s = min(settings.agent_suspect_s, settings.agent_lease_s) / BEATS
    return reply(agent_json(done, leases) | {"drop": drop, "heartbeat_s": round(period_s, 3)})


@endpoints.get("/pools/{pool}/agents", response_model=AgentList, dependencies=[Depends(VIEWER)])
async def list_agents(request: Request, pool: PathId, limit: Limit = 1_000, after: After = None) -> Response:
    """List a pool's agents."""
    runtime = runtime_of(request)
    agents = await runtime.read(lambda store: store.agents(PoolId(pool)))
    cut, next = page(agents, limit, after, lambda agent: agent.id)
    leases = await _leases(runtime, cut)
    return listing([agent_json(agent, leases.get(agent.id, ())) for agent in cut], next)


@endpoints.post("/pools/{pool}/agents/{id}/heartbeat", response_model=AgentAnswer, dependencies=[Depends(MEDIA)])
async def heartbeat_agent(request: Request, pool: PathId, id: PathId, body: BeatBody) -> Response:
    """Say that an agent lives; the answer tells it of the sessions it was given."""
    runtime = runtime_of(request)
    says = None if body.state is None else AgentState(body.state)
    done = await runtime.commit_later(
        lambda store: store.heartbeat_agent(
            PoolId(pool), AgentId(id), body.epoch, runtime.now(), nonce=body.nonce, says=says
        )
    )
    return reply(await _answer(runtime, done))


@endpoints.post("/pools/{pool}/agents/{id}/release", response_model=AgentAnswer, dependencies=[Depends(MEDIA)])
async def release_agent(request: Request, pool: PathId, id: PathId, body: ReleaseBody) -> Response:
    """Give up the lease of one session or of all: they end. An agent that is wrapping up says so that it is done."""
    runtime = runtime_of(request)
    session = None if body.session is None else SessionId(body.session)
    done = await runtime.commit(
        lambda store: store.release_agent(PoolId(pool), AgentId(id), body.epoch, runtime.now(), session)
    )
    return reply(await _answer(runtime, done))


@endpoints.post("/pools/{pool}/agents/{id}/cordon", response_model=AgentAnswer, dependencies=[Depends(OPERATOR)])
async def cordon_agent(request: Request, pool: PathId, id: PathId) -> Response:
    """Let an agent keep what it holds and take no more; repeating it changes nothing."""
    return await _cordon(request, pool, id, True)


@endpoints.post("/pools/{pool}/agents/{id}/uncordon", response_model=AgentAnswer, dependencies=[Depends(OPERATOR)])
async def uncordon_agent(request: Request, pool: PathId, id: PathId) -> Response:
    """Let an agent take sessions again."""
    return await _cordon(request, pool, id, False)


async def _cordon(request: Request, pool: str, id: str, on: bool) -> Response:
    runtime, actor = runtime_of(request), actor_of(request)
    done = await runtime.commit(
        lambda store: store.cordon_agent(PoolId(pool), AgentId(id), on, actor=actor, now=runtime.now())
    )
    return reply(await _answer(runtime, done))


@endpoints.get("/capacity", response_model=CapacityList, dependencies=[Depends(VIEWER)])
async def capacity(request: Request) -> Response:
    """Show per pool how many places are idle, busy, coming and expected to be needed, and what is bought and why."""
    runtime = runtime_of(request)
    places, queued = await runtime.read(lambda store: (store.agent_places(), store.queue_lengths()))
    return reply(capacity_json(runtime.view, places, queued))
