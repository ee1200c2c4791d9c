"""Linode (Akamai) through its official SDK, ``linode-api4``.

Idempotency: a Linode's label is unique in its account, so a second launch with one key is refused by the cloud itself
and answered with the machine that has the label. Tags are the words ``key=value``. Limits of the account cannot be
read, only met. Permissions of the token: Linodes read/write, Events none, Account none.
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import (
    CloudRegion,
    ConsoleHealth,
    Machine,
    NotFound,
    Order,
    Quota,
    Refused,
    Size,
    State,
    check_deployment,
    machine_name,
    refuse_strangers,
    tags_of,
)
from providers.extras import sdk
from providers.labels import tags_from, words_of
from providers.refusals import Refusal, Words, forms, health, never_sent, typed, unanswered, understood

NAME = "linode"
_PAGE = 500  # the most that the API gives at once
_Rows = list[dict[str, Any]]  # the adapters have a method called list
_WORDS = Words(
    capacity=("capacity", "no open slots", "sold out", "not available in this region", "currently unavailable"),
    quota=("limit reached", "limit exceeded", "exceed your limit"),
)
_STATES = {
    "running": State.RUNNING,
    "offline": State.STOPPED,
    "stopped": State.STOPPED,
    "shutting_down": State.STOPPED,
    "deleting": State.GOING,
}


@dataclass(frozen=True, slots=True)
class LinodeConfig:
    """What the adapter needs to know; the token comes from ``LINODE_TOKEN``."""

    deployment: str
    token: str = field(repr=False)
    image: str = "linode/debian12"
    authorized_keys: tuple[str, ...] = ()
    base_url: str = "https://api.linode.com/v4"
    timeout_s: float = 30.0


class Linode:
    """One Linode account."""

    name = NAME

    def __init__(self, config: LinodeConfig) -> None:
        check_deployment(config.deployment)
        linode_api4 = sdk(NAME, "linode_api4")
        self._config = config
        self._api_error = linode_api4.ApiError
        self._other_errors = (sdk(NAME, "requests").RequestException, linode_api4.UnexpectedResponseError)
        self._client = linode_api4.LinodeClient(config.token, base_url=config.base_url, retry=False)
        # The SDK sets no time limit of its own.
        self._client.session.request = functools.partial(self._client.session.request, timeout=config.timeout_s)

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the cloud's regions by code."""
        rows = self._pages("regions", "/regions")
        return tuple(sorted((CloudRegion(r["id"], r["status"] == "ok") for r in rows), key=lambda r: r.code))

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return the plans; some regions have prices of their own."""
        rows = self._pages("sizes", "/linode/types")
        sizes = (Size(r["id"], r["vcpus"], r["memory"], _price(r, cloud_region)) for r in rows)
        return tuple(sorted(sizes, key=lambda s: s.name))

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return nothing: Linode does not tell the limit of an account."""
        return ()

    @understood
    def launch(self, order: Order) -> Machine:
        """Order one machine; with a key that was used before, return that machine."""
        label = machine_name(order.idempotency_key)
        body: dict[str, object] = {
            "label": label,
            "region": order.cloud_region,
            "type": order.size,
            "image": self._config.image,
            "root_pass": secrets.token_urlsafe(24) + "-Aa1",  # asked for with an image; nobody ever uses it
            "tags": words_of(tags_of(self._config.deployment, order)),
            "booted": True,
        }
        if self._config.authorized_keys:
            body["authorized_keys"] = list(self._config.authorized_keys)
        if order.user_data:
            body["metadata"] = {"user_data": base64.b64encode(order.user_data.encode()).decode()}
        try:
            return _machine(self._call("launch", "post", "/linode/instances", body, user_data=order.user_data))
        except Refused as refused:
            if "unique" not in refused.detail.lower():
                raise
        known = [m for m in self.list({"launch": order.idempotency_key}) if m.name == label]
        if not known:
            raise Refused(NAME, "launch", f"the label {label} is taken by a machine that has no tag of this launch")
        return known[0]

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine."""
        if not machine_id.isdigit():
            raise NotFound(NAME, "get", f"{machine_id!r} is no Linode id")
        return _machine(self._call("get", "get", f"/linode/instances/{machine_id}"))

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine that has all these tags, by id."""
        wanted = {"+and": [{"tags": word} for word in words_of(tags)]} if tags else None
        rows = self._pages("list", "/linode/instances", wanted)
        found = [m for m in map(_machine, rows) if tags.items() <= m.tags.items()]
        return tuple(sorted(found, key=lambda m: int(m.id)))

    @understood
    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours with its disks; one that is gone already is a success."""
        try:
            refuse_strangers(self.get(machine_id), self._config.deployment)
            self._call("terminate", "delete", f"/linode/instances/{machine_id}")
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask for one machine, with the permissions that launching needs."""
        return health(lambda: self._call("console_health", "get", "/linode/instances?page=1&page_size=25")["data"])

    def close(self) -> None:
        """Close connections."""
        self._client.session.close()

    def _pages(self, operation: str, path: str, filters: Mapping[str, object] | None = None) -> _Rows:
        # The regions and plans are described without parameters: their first page is asked for without any.
        query = f"?page=1&page_size={_PAGE}" if operation == "list" else ""
        answer = self._call(operation, "get", path + query, filters=filters)
        rows: _Rows = list(answer["data"])
        for page in range(2, answer["pages"] + 1):
            query = f"?page={page}&page_size={_PAGE}" if operation == "list" else f"?page={page}"
            rows += self._call(operation, "get", path + query, filters=filters)["data"]
        return rows

    def _call(
        self,
        operation: str,
        verb: str,
        path: str,
        body: Mapping[str, object] | None = None,
        filters: Mapping[str, object] | None = None,
        user_data: str = "",
    ) -> dict[str, Any]:
        hidden = (self._config.token, *forms(user_data))
        more = {"filters": filters} if verb == "get" else {"data": body}
        try:
            answer: dict[str, Any] = getattr(self._client, verb)(path, **more)
        except self._api_error as error:
            headers = {} if error.response is None else error.response.headers
            text = json.dumps(error.json) if error.json else str(error)
            raise typed(NAME, operation, Refusal(error.status, text, headers), _WORDS, hidden) from None
        except self._other_errors as error:
            raise unanswered(NAME, operation, error, not never_sent(error), hidden) from None
        return answer


def _price(row: Mapping[str, Any], cloud_region: str) -> int:
    own = [p for p in row.get("region_prices", ()) if p["id"] == cloud_region]
    hourly: float = (own[0] if own else row["price"])["hourly"]
    return round(hourly * 1_000_000)


def _machine(row: Mapping[str, Any]) -> Machine:
    ipv6 = (row.get("ipv6") or "").partition("/")[0]
    return Machine(
        provider=NAME,
        id=str(row["id"]),
        name=row["label"],
        region=row["region"],
        size=row["type"],
        state=_STATES.get(row["status"], State.STARTING),
        tags=tags_from(row["tags"]),
        addresses=(*row["ipv4"], *((ipv6,) if ipv6 else ())),
    )
