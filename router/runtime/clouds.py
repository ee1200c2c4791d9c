"""The adapters of a purchasing file, opened when they are needed; called in threads, never on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from providers.adapters import open_provider
from providers.base import CloudError, CloudProvider, Machine, NotFound, Order
from providers.reaper import Booked, Reaped, reap
from router.core.capacity import Offer
from router.core.messages import Priced
from router.core.model import DataCenterId
from router.purchasing import Purchasing

T = TypeVar("T")
log = structlog.get_logger("tendril.clouds")
CALLS = 16  # at once: each waits for a cloud, most of them for a second
_Key = tuple[str, DataCenterId, str]


class Clouds:
    """One adapter per provider of the purchasing file."""

    def __init__(
        self, purchasing: Purchasing, opener: Callable[[str, Mapping[str, object]], CloudProvider] = open_provider
    ) -> None:
        self.purchasing = purchasing
        self._open = opener
        self._opened: dict[str, CloudProvider] = {}
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="clouds")

    async def launch(self, provider: str, order: Order) -> Machine:
        """Order a machine. Raises :class:`CloudError`."""
        return await self._in(lambda: self._of(provider).launch(order))

    async def look(self, provider: str, machine: str) -> Machine | None:
        """A machine as the cloud tells it; None if it knows none. Raises :class:`CloudError`."""

        def find() -> Machine | None:
            try:
                return self._of(provider).get(machine)
            except NotFound:
                return None

        return await self._in(find)

    async def take_back(self, provider: str, key: str, machine: str | None) -> int:
        """Have a machine deleted, or all that were made with a key; how many there were. Raises :class:`CloudError`."""

        def remove() -> int:
            cloud = self._of(provider)
            ids = [machine] if machine else [found.id for found in cloud.list({"launch": key})]
            for id in ids:
                cloud.terminate(id)
            return len(ids)

        return await self._in(remove)

    async def reaped(self, provider: str, books: Mapping[str, Booked]) -> Reaped:
        """Compare a cloud's list with the books. Raises :class:`CloudError` of the listing."""
        return await self._in(lambda: reap(self._of(provider), self.purchasing.deployment, books))

    async def prices(self) -> Priced:
        """What all providers say of the offers; one that says nothing is logged and left out."""
        found = await asyncio.gather(*(self._in(lambda one=name: self._told(one)) for name in self._names()))  # type: ignore[misc]
        price: dict[_Key, int] = {}
        free: dict[_Key, int] = {}
        for prices, left in found:
            price |= prices
            free |= left
        return Priced(dict(sorted(price.items())), dict(sorted(free.items())))

    def close(self) -> None:
        """Close what was opened, after the calls under way."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for cloud in self._opened.values():
            cloud.close()

    def _names(self) -> list[str]:
        return sorted({offer.provider for offer in self.purchasing.buying.offers})

    def _told(self, name: str) -> tuple[dict[_Key, int], dict[_Key, int]]:
        prices: dict[_Key, int] = {}
        free: dict[_Key, int] = {}
        mine = [offer for offer in self.purchasing.buying.offers if offer.provider == name]
        try:
            cloud = self._of(name)
            for place in sorted({offer.cloud_region for offer in mine}):
                here = [offer for offer in mine if offer.cloud_region == place]
                prices |= dict(_prices(cloud, place, here))
                free |= dict(_free(cloud, place, here))
        except CloudError as error:
            log.warning("prices_unknown", provider=name, code=error.code, error=str(error))
        return prices, free

    def _of(self, name: str) -> CloudProvider:
        with self._opening:
            if name not in self._opened:
                part = self.purchasing.providers[name]
                settings = {"deployment": self.purchasing.deployment, **part.settings}
                self._opened[name] = self._open(part.adapter, settings)
            return self._opened[name]

    async def _in(self, fn: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, fn)


def _prices(cloud: CloudProvider, place: str, offers: list[Offer]) -> Iterator[tuple[_Key, int]]:
    if any(offer.price_uusd_h < 0 for offer in offers):
        told = {size.name: size.price_microusd_per_hour for size in cloud.sizes(place)}
        for offer in offers:
            price = told.get(offer.size)
            if price is not None:
                yield offer.key, price


def _free(cloud: CloudProvider, place: str, offers: list[Offer]) -> Iterator[tuple[_Key, int]]:
    """Only limits that count machines of a size; clouds count cores as well, which their refusals tell better."""
    left = {quota.name: max(0, quota.limit - quota.used) for quota in cloud.quota(place)}
    for offer in offers:
        if offer.size in left:
            yield offer.key, left[offer.size]
