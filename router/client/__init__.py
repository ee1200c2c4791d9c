"""The typed client of the HTTP contract."""

from router.client.answers import ApiProblem, Json, ServerEvent, Unreachable, parse_events, problem_of
from router.client.calls import DEFAULT_URL, KEY_FILE, Client, from_env
from router.client.follow import AsyncRoutes, Routes
from router.client.table import HeldPath, HeldRoute, RouteTable

__all__ = [
    "DEFAULT_URL",
    "KEY_FILE",
    "ApiProblem",
    "AsyncRoutes",
    "Client",
    "HeldPath",
    "HeldRoute",
    "Json",
    "RouteTable",
    "Routes",
    "ServerEvent",
    "Unreachable",
    "from_env",
    "parse_events",
    "problem_of",
]
