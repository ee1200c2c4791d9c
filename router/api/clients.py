"""Client networks: beacons come in, beliefs go out, and the snippet with which browsers measure.

An address is truncated while it is read (:mod:`router.schemas.clients`); whose it is and where is looked up then, from
the operator's files. The body of ``POST /v1/beacons`` is taken as a whole or refused as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from router.access import AGENT_PREFIX
from router.api.gate import NODE_OR_MEDIA, VIEWER, Endpoint, addresses_of, key_of, runtime_of
from router.api.reply import listing, page, reply
from router.core.clients import PREFIX, ClientTable, belief, candidates
from router.core.clients.evidence import disbelief
from router.core.errors import InputRejected
from router.core.messages import Beacon, Beaconed
from router.core.model import Client, NodeId
from router.core.tables import View
from router.schemas.beacons import (
    LEVELS,
    BeaconBody,
    BeaconsAnswer,
    BeaconsBody,
    ClientNetworkAnswer,
    GroupList,
    client_network_json,
    group_json,
)
from router.schemas.clients import truncated

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["clients"])
GROUP_CURSOR = r"^[0-9A-Za-z.:/]{1,64}$"
ADDRESS = r"^([0-9A-Fa-f.:]+|[Aa][Ss][0-9]{1,10}|[A-Za-z]{2})$"
COUNTRY_LETTERS = 2
LAST_ASN = 2**32 - 1


@endpoints.post("/beacons", response_model=BeaconsAnswer, dependencies=[Depends(NODE_OR_MEDIA)])
async def post_beacons(request: Request, body: BeaconsBody) -> Response:
    """Take measured round trips between clients and edges; all rows or none.

    Rows that cannot be true (light would have been slower) are left out and counted. A node's own key may speak of its
    own data center only.
    """
    runtime = runtime_of(request)
    beacons = _read(request, runtime.view, body.root)
    left_out: dict[str, int] = {}
    taken = []
    for beacon in beacons:
        reason = disbelief(beacon, runtime.view.inventory)
        if reason is None:
            taken.append(beacon)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    if beacons:
        await runtime.submit(Beaconed(tuple(beacons)))  # with those left out: the core counts them
    return reply({"accepted": len(taken), "left_out": left_out})


def _read(request: Request, view: View, rows: Sequence[BeaconBody]) -> list[Beacon]:
    """The rows as the core takes them. Raises ``unknown_data_center``, ``not_your_node``, ``invalid_field``."""
    key, book = key_of(request), addresses_of(request)
    own = None
    if key.scope.startswith(AGENT_PREFIX):
        node = view.inventory.nodes.get(NodeId(key.scope.removeprefix(AGENT_PREFIX)))
        own = "" if node is None else node.data_center
    beacons = []
    for i, row in enumerate(rows):
        if row.data_center not in view.inventory.data_centers:
            message = f"row {i}: there is no data center {row.data_center}"
            raise InputRejected("unknown_data_center", message, field=f"{i}.data_center")
        if own is not None and row.data_center != own:
            message = f"row {i}: the key is that of a node in {own}, and it cannot speak for {row.data_center}"
            raise InputRejected("not_your_node", message, field=f"{i}.data_center", limit=own)
        client = book.network(row.client.core())
        if client is None:
            message = f"row {i}: needs a public ip, an asn or a country: nothing else says whose network it was"
            raise InputRejected("invalid_field", message, field=f"{i}.client", rule="public ip, asn or country")
        beacons.append(row.core(client, key.id))
    return beacons


@endpoints.get("/clients", response_model=GroupList, dependencies=[Depends(VIEWER)])
async def list_clients(
    request: Request,
    group_by: Literal["asn", "country", "prefix"] = "asn",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str | None, Query(pattern=GROUP_CURSOR, description="`next` of the page before")] = None,
) -> Response:
    """List what was measured of client networks, by AS number, country or prefix."""
    runtime = runtime_of(request)
    networks = (runtime.view.clients or ClientTable()).networks(LEVELS[group_by])
    cut, next = page(list(networks.items()), limit, after, lambda pair: pair[0])
    return listing([group_json(id, network, runtime.now()) for id, network in cut], next)


@endpoints.get("/clients/{ip}", response_model=ClientNetworkAnswer, dependencies=[Depends(VIEWER)])
async def get_client(
    request: Request,
    ip: Annotated[
        str,
        Path(pattern=ADDRESS, max_length=45, description="IPv4 or IPv6 address; or AS64500, or a country such as DE"),
    ],
) -> Response:
    """Show what is believed about an address's network: every edge with error and provenance, and what to measure."""
    view = runtime_of(request).view
    table = view.clients or ClientTable()
    client = table.known(addresses_of(request).located(_named(ip)))
    asked = candidates(view, client)
    own = None if client.prefix is None else table.get((PREFIX, client.prefix))
    return reply(client_network_json(client, belief(view, client), own, view.inventory, asked))


def _named(text: str) -> Client:
    """The client network that a text names: by an address in it, an AS number, or a country."""
    try:
        return Client(truncated(text))
    except ValueError:
        if len(text) == COUNTRY_LETTERS and text.isalpha():
            return Client(None, country=text.upper())
        if text[:2].upper() == "AS" and 0 < int(text[2:]) <= LAST_ASN:
            return Client(None, asn=int(text[2:]))
        rule = "an IPv4 or IPv6 address, AS64500, or DE"
        raise InputRejected("invalid_parameter", f"must be {rule}", field="ip", rule=rule) from None


@endpoints.get("/beacon.js", include_in_schema=False)
async def beacon_js(request: Request) -> Response:
    """The snippet with which a browser measures its way to edges; public, and the same for everybody."""
    del request
    return Response(_SNIPPET, media_type="text/javascript", headers=_SNIPPET_HEADERS)


_SNIPPET = files("router.api").joinpath("beacon.js").read_bytes()
_SNIPPET_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Access-Control-Allow-Origin": "*",  # modules of other origins are fetched that way
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
