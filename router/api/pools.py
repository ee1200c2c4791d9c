"""Agents of pools that do not speak the LiveKit worker protocol: registered, kept alive, released, listed."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import MEDIA, VIEWER, Endpoint, runtime_of
from router.api.reply import After, Limit, PathId, listing, page, reply
from router.core.model import AgentId, PoolId
from router.schemas.pools import AgentAnswer, AgentBody, AgentList, LeaseBody, agent_json

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["pools"])


@endpoints.post("/pools/{pool}/agents", response_model=AgentAnswer, dependencies=[Depends(MEDIA)])
async def register_agent(request: Request, pool: PathId, body: AgentBody) -> Response:
    """Offer an agent, or take up the lease it still has; registering again is harmless."""
    runtime = runtime_of(request)
    agent = body.core(PoolId(pool), runtime.now())
    done = await runtime.commit(lambda store: store.register_agent(agent, runtime.now()))
    return reply(agent_json(done))


@endpoints.get("/pools/{pool}/agents", response_model=AgentList, dependencies=[Depends(VIEWER)])
async def list_agents(request: Request, pool: PathId, limit: Limit = 1_000, after: After = None) -> Response:
    """List a pool's agents."""
    agents = await runtime_of(request).read(lambda store: store.agents(PoolId(pool)))
    cut, next = page(agents, limit, after, lambda agent: agent.id)
    return listing([agent_json(agent) for agent in cut], next)


@endpoints.post("/pools/{pool}/agents/{id}/heartbeat", response_model=AgentAnswer, dependencies=[Depends(MEDIA)])
async def heartbeat_agent(request: Request, pool: PathId, id: PathId, body: LeaseBody) -> Response:
    """Say that an agent lives; the answer tells it of a session it was given."""
    runtime = runtime_of(request)
    done = await runtime.commit(
        lambda store: store.heartbeat_agent(PoolId(pool), AgentId(id), body.epoch, runtime.now())
    )
    return reply(agent_json(done))


@endpoints.post("/pools/{pool}/agents/{id}/release", response_model=AgentAnswer, dependencies=[Depends(MEDIA)])
async def release_agent(request: Request, pool: PathId, id: PathId, body: LeaseBody) -> Response:
    """Give a lease up: the session is over, the agent is ready again."""
    runtime = runtime_of(request)
    done = await runtime.commit(lambda store: store.release_agent(PoolId(pool), AgentId(id), body.epoch, runtime.now()))
    return reply(agent_json(done))
