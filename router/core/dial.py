"""Dials: the share of users a data center may take as new sessions, and who is in that share.

A user is in a data center's share by a hash of who the user is and of the data center, so that nobody hops in and out:
while the share grows, those who were in stay in. The hash of one data center says nothing about that of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from router.core.model import Client, DataCenterId
from router.core.tables import I64, U64, Dial

WHOLE_PPM = 1_000_000
CONTROL_SPAN_PPM = 250_000  # users next outside a share are its control arm; more of them would not tell more
USER_LABEL = "user"  # the session metadata that names a user over all of his sessions


def identity(client: Client, labels: Mapping[str, str], seed: str) -> str:
    """Who a user is, as steadily as is known: by name, else by network, else this one session."""
    return labels.get(USER_LABEL) or client.prefix or seed


@lru_cache(maxsize=4096)
def salt(data_center: DataCenterId) -> int:
    """What makes the hash of each data center its own."""
    return _blake(f"dial|{data_center}")


def positions_ppm(user: str, salts: U64) -> I64:
    """Where a user stands at each data center, 0 to 999,999: in the share if below it.

    One hash of the user, then the finaliser of splitmix64 (Steele, Lea, Flood: OOPSLA 2014) with each salt, on arrays.
    """
    return _finished(salts ^ np.uint64(_blake(user)))


def positions_of(users: Iterable[str], data_center: DataCenterId) -> I64:
    """Where many users stand at one data center, as ``positions_ppm`` says of each."""
    return _finished(np.fromiter((_blake(user) for user in users), np.uint64) ^ np.uint64(salt(data_center)))


def _finished(mixed: U64) -> I64:
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(32)) * np.uint64(WHOLE_PPM) >> np.uint64(32)).astype(np.int64)


def position_ppm(user: str, data_center: DataCenterId) -> int:
    """Where a user stands at one data center."""
    return int(positions_ppm(user, np.array([salt(data_center)], np.uint64))[0])


def composed(*claims: Iterable[tuple[DataCenterId, Dial]]) -> Mapping[DataCenterId, Dial]:
    """What several who turn the same dials come to: the smaller share wins, the first of two equals names the cause."""
    found: dict[DataCenterId, Dial] = {}
    for claim in claims:
        for dc, dial in claim:
            if dc not in found or dial.share_ppm < found[dc].share_ppm:
                found[dc] = dial
    return {dc: found[dc] for dc in sorted(found) if found[dc].share_ppm < WHOLE_PPM}


def _blake(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
