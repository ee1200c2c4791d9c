"""JSON over HTTP for clouds without a kept SDK: one request, one answer or one typed error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from providers.refusals import Refusal, Words, typed, unanswered

# Until one of these is over, no byte of the request has left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Rest:
    """One account at one address, with a bearer token that no error shows."""

    def __init__(self, provider: str, base_url: str, token: str, timeout_s: float, words: Words) -> None:
        self._provider = provider
        self._secrets = (token,)
        self._words = words
        self._client = httpx.Client(
            base_url=base_url.rstrip("/"), timeout=timeout_s, headers={"Authorization": f"Bearer {token}"}
        )

    def call(
        self,
        operation: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        hidden: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Return the answer's object, empty for an answer without one. Raises :class:`CloudError`."""
        secrets = (*self._secrets, *hidden)
        try:
            answer = self._client.request(method, path, params=params, json=body, headers=headers)
        except httpx.RequestError as error:
            sent = not isinstance(error, _NOT_SENT)
            raise unanswered(self._provider, operation, error, sent, secrets) from None
        if not answer.is_success:
            refusal = Refusal(answer.status_code, answer.text, answer.headers)
            raise typed(self._provider, operation, refusal, self._words, secrets)
        if not answer.content:
            return {}
        try:
            document = answer.json()
        except ValueError as error:
            raise unanswered(self._provider, operation, error, True, secrets) from None
        if not isinstance(document, dict):
            raise unanswered(self._provider, operation, TypeError("the answer is no JSON object"), True)
        return document

    def close(self) -> None:
        """Close connections."""
        self._client.close()
