"""Client network -> edge: what the access leg to every data center will take, with error and provenance.

:mod:`evidence` keeps what was measured, :mod:`tomography` learns from all of it, :mod:`access` says what is believed
about one client and which edges it should measure next.
"""

from router.core.clients.access import Access, Belief, access_legs, belief, candidates
from router.core.clients.evidence import (
    ASN,
    ASN_METRO,
    COUNTRY,
    GEO,
    NONE,
    PREFIX,
    PROVENANCES,
    ClientBook,
    ClientTable,
    Network,
    keys_of,
    rtt_of,
    verdict,
)
from router.core.clients.tomography import Census, Tomography

__all__ = [
    "ASN",
    "ASN_METRO",
    "COUNTRY",
    "GEO",
    "NONE",
    "PREFIX",
    "PROVENANCES",
    "Access",
    "Belief",
    "Census",
    "ClientBook",
    "ClientTable",
    "Network",
    "Tomography",
    "access_legs",
    "belief",
    "candidates",
    "keys_of",
    "rtt_of",
    "verdict",
]
