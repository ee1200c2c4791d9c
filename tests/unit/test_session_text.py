"""The text of a session is byte for byte what dumping its JSON form gives."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.api.reply import dump
from router.core.model import (
    AgentId,
    Client,
    Constraints,
    DataCenter,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.core.steering import RankedEdge
from router.schemas.session_text import EdgeTexts, tail
from router.schemas.sessions import session_json, ways_json

A, B, NODE = DataCenterId("a"), DataCenterId("b"), NodeId("n-1")


def inventory() -> Inventory:
    """Two data centers, one with a node that has an address of its own."""
    places = {
        dc: DataCenter(dc, ProviderId("p"), RegionId("r"), media_url=url) for dc, url in ((A, ""), (B, 'wss://b"/é'))
    }
    node = Node(NODE, A, media_url="wss://n")
    return Inventory(
        providers={ProviderId("p"): Provider(ProviderId("p"))},
        regions={RegionId("r"): Region(RegionId("r"))},
        data_centers=places,
        nodes={NODE: node},
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
maybe = st.none() | texts
times = st.integers(0, 4_000_000_000_000_000)
degrees = st.none() | st.floats(-180, 180, allow_nan=False)
delays = st.none() | st.integers(-1, 10_000_000)
clients = st.builds(Client, maybe, st.none() | st.integers(1, 1 << 32), maybe, degrees, degrees)
wishes = st.just(Constraints()) | st.builds(
    Constraints,
    st.none() | st.just((ProviderId("p"),)),
    st.just(()),
    st.none(),
    st.just((RegionId("r"),)),
    st.none() | st.integers(0, 1_000_000),
)
edges = st.builds(
    RankedEdge,
    st.sampled_from([A, B, DataCenterId("gone")]),
    st.none() | st.just(NODE),
    texts,
    st.none() | st.just(B),
    st.integers(-1, 10_000_000),
    texts,
    delays,
    delays,
    st.integers(0, 10_000_000),
    texts,
)
sessions = st.builds(
    Session,
    id=st.just(SessionId("s-1")),
    state=st.sampled_from(list(SessionState)),
    traffic_class=st.sampled_from(list(TrafficClass)),
    client=clients,
    edge=st.sampled_from([A, B, DataCenterId("gone")]),
    edge_node=st.none() | st.just(NODE),
    edges=st.lists(st.sampled_from([A, B, DataCenterId("gone")]), max_size=3).map(tuple),
    epoch=st.integers(1, 1 << 40),
    created_at=times,
    lease_expires_at=times,
    pool=st.none() | st.just(PoolId("tutors")),
    agent=st.none() | st.just(AgentId("ai-1")),
    agent_data_center=st.none() | st.just(B),
    moved_from=st.none() | st.just(A),
    constraints=wishes,
    metadata=st.dictionaries(texts, texts, max_size=3),
    reasons=st.lists(texts, max_size=3).map(tuple),
    ended_at=st.none() | times,
    end_reason=maybe,
    queued_until=st.none() | times,
)


@given(sessions, st.lists(edges, max_size=3), texts, maybe, st.none() | st.integers(1, 99))
def test_both_ways_give_the_same_bytes(
    session: Session, ranked: list[RankedEdge], address: str, token: str | None, position: int | None
) -> None:
    places, legs = inventory(), [{"id": "l-1", "agent": None, "created_at": "é"}]
    long = dump(
        session_json(
            session, places, None, agent_address=address, generation=7, grace_s=60, token=token, ranked=ranked,
            legs=legs, position=position,
        )
    )  # fmt: skip
    ways = dump(ways_json(None))[1:-1]
    head = EdgeTexts().head(session, places, agent_address=address, generation=7, ranked=ranked)
    end = tail(session, grace_s=60, token=token, legs=legs, position=position)
    assert f"{{{head},{ways},{end}}}" == long


def test_addresses_of_edges_are_those_of_the_inventory_that_is_asked() -> None:
    texts, places = EdgeTexts(), inventory()
    assert '"url":"wss://n"' in texts.text(places, A, NODE)
    moved = replace(places, nodes={NODE: replace(places.nodes[NODE], media_url="wss://elsewhere")})
    assert '"url":"wss://elsewhere"' in texts.text(moved, A, NODE)
