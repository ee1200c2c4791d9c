"""The inventory of a demo world as one ``POST /v1/fleet`` body: what operators would declare about these machines."""

from __future__ import annotations

from router.demo.world import World, WorldDataCenter, WorldNode

POOL = "demo-agents"
LABELS = {"managed_by": "demo"}
REFLECTOR_PORT, RELAY_PORT, EDGE_PORT = 7421, 7422, 7423
CAPACITY_SESSIONS = 1_000  # per data center; plenty for a demo, finite so that headroom has a meaning
CAPACITY_MBPS = 10_000


def fleet(world: World) -> dict[str, object]:
    """Return the body. It names no intents: what operators asked of a data center stays in force."""
    return {
        "providers": [_labelled({"id": id}) for id in sorted({dc.provider for dc in world.data_centers})],
        "regions": _regions(world),
        "data_centers": [_data_center(dc) for dc in world.data_centers],
        "nodes": [_node(dc, node) for dc in world.data_centers for node in dc.nodes],
        "pools": [_labelled({"id": POOL, "class": "agent"})],
        "prune": False,
        "dry_run": False,
    }


def media_url(node: WorldNode) -> str:
    """Where users reach a node's media edge."""
    return f"udp://{node.standin_host}:{EDGE_PORT}"


def _node(dc: WorldDataCenter, node: WorldNode) -> dict[str, object]:
    return {
        "id": node.id,
        "data_center": dc.id,
        "addresses": {"internet": node.standin_host},
        "reflector_port": REFLECTOR_PORT,
        "relay_port": RELAY_PORT,
        "media_url": media_url(node),
        "labels": {**LABELS, "bind_host": node.real_host},  # the agent says it too when it joins
    }


def _regions(world: World) -> list[dict[str, object]]:
    first = {dc.region: dc for dc in reversed(world.data_centers)}
    return [
        _labelled(
            {
                "id": id,
                "name": first[id].city or id,
                "country": first[id].country,
                "latitude": first[id].latitude,
                "longitude": first[id].longitude,
            }
        )
        for id in sorted(first)
    ]


def _data_center(dc: WorldDataCenter) -> dict[str, object]:
    return _labelled(
        {
            "id": dc.id,
            "provider": dc.provider,
            "region": dc.region,
            "roles": list(dc.roles),
            "latitude": dc.latitude,
            "longitude": dc.longitude,
            "capacity": {"sessions": CAPACITY_SESSIONS, "mbps": CAPACITY_MBPS},
            "media_url": media_url(dc.nodes[0]),
        }
    )


def _labelled(resource: dict[str, object]) -> dict[str, object]:
    return {**resource, "labels": LABELS}
