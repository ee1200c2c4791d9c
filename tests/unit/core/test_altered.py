"""A copy with changes is what the standard library makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.altered import altered
from router.core.model import Agent, AgentId, AgentState, DataCenterId, PoolId, SessionId

AGENT = Agent(AgentId("a"), PoolId("p"), DataCenterId("d"), state=AgentState.READY, epoch=3, capacity=2)


def test_a_copy_is_what_replace_makes_and_the_record_stays() -> None:
    before = replace(AGENT)
    assert altered(AGENT) == AGENT
    assert altered(AGENT, epoch=4, session=SessionId("s")) == replace(AGENT, epoch=4, session=SessionId("s"))
    assert before == AGENT


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError):
        altered(AGENT, ages=4)
