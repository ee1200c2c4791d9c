"""Links of the two hosters among Tendril's providers: their list prices, which the shared data lacks, and whose delays.

Egress, in US dollars per GB; what comes in is free with both, and what a machine's own allowance covers is not counted:

- Linode: 0.005, Jakarta 0.015, São Paulo 0.007: example of ``GET /v4/network-transfer/prices`` in Linode's own API
  description 4.229.1, https://techdocs.akamai.com/linode-api/reference/get-network-transfer-prices
- Vultr: 0.01 everywhere: https://docs.vultr.com/platform/billing/view-bandwidth-usage

Nobody has published delays between their places. A way with a hoster at either end is given the longest round trip
that the shared data has between any two clouds of the same two cities, so that a hoster is never the better line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from router.core.capacity import Way

Site = tuple[str, str]  # provider and its region
Pair = tuple[Site, Site]
LISTED: Mapping[str, float] = {"linode": 0.005, "vultr": 0.01}
ELSEWHERE: Mapping[Site, float] = {("linode", "id-cgk"): 0.015, ("linode", "br-gru"): 0.007}


def out_usd(site: Site, price: Mapping[Pair, float]) -> float | None:
    """What a site pays to send a GB over the internet: a cloud what it pays towards other clouds."""
    if site[0] in LISTED:
        return ELSEWHERE.get(site, LISTED[site[0]])
    return max(
        (usd for (source, target), usd in price.items() if source == site != target and target[0] != site[0]),
        default=None,
    )


def ways(
    group: int, hub: int, here: list[Site], there: list[Site], price: Mapping[Pair, float], rtt: Mapping[Pair, float]
) -> Iterator[Way]:
    """Ways between two cities with a hoster at one end or at both."""
    clouds = [(a, b) for a, b in product(here, there) if a[0] not in LISTED and b[0] not in LISTED]
    measured = [0.0 if pair[0] == pair[1] else rtt[pair] for pair in clouds if pair[0] == pair[1] or pair in rtt]
    if not measured:
        return
    for edge, far in product(here, there):
        if edge[0] not in LISTED and far[0] not in LISTED:
            continue
        sent, back = out_usd(edge, price), out_usd(far, price)
        if sent is None or back is None:
            continue
        usd = 0.0 if edge == far else (sent + back) / 2
        yield Way(group, hub, far[0], "/".join((*edge, *far)), round(usd * 1e6), round(max(1.0, *measured) * 1e3))
