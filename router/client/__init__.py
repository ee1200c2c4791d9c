"""The typed client of the HTTP contract."""

from router.client.answers import ApiProblem, Json, ServerEvent, Unreachable, parse_events, problem_of
from router.client.calls import DEFAULT_URL, KEY_FILE, Client, from_env

__all__ = [
    "DEFAULT_URL",
    "KEY_FILE",
    "ApiProblem",
    "Client",
    "Json",
    "ServerEvent",
    "Unreachable",
    "from_env",
    "parse_events",
    "problem_of",
]
