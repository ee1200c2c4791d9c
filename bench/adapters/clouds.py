"""The clouds of the drill: an adapter, its fake, and the description that judges every request and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.adapters.drill import DEPLOYMENT
from providers.adapters import open_provider
from providers.base import CloudProvider
from providers.fake import described, shapes
from providers.fake.gcp import GcpCloud
from providers.fake.linode import LinodeCloud
from providers.fake.own import OwnCloud
from providers.fake.server import Cloud, Description, FakeCloud, Schedule, never
from providers.fake.vultr import VultrCloud
from providers.labels import words_of

SPECS = Path(__file__).parents[2].parent / "shared" / "specs" / "openapi"
TOKEN = "a-token"
_ZONE = "/projects/{project}/zones/{zone}"
_GCP = (
    "/projects/{project}/regions",
    "/projects/{project}/regions/{region}",
    "/projects/{project}/aggregated/instances",
    f"{_ZONE}/machineTypes",
    f"{_ZONE}/instances",
    f"{_ZONE}/instances/{{instance}}",
    f"{_ZONE}/operations/{{operation}}/wait",
)
_LINODE = ("/regions", "/linode/types", "/linode/instances", "/linode/instances/{linodeId}")


@dataclass(frozen=True, slots=True)
class Case:
    """How one cloud is set up, and an order that it can serve."""

    cloud: Callable[[int], Cloud]
    description: Callable[[], Description]
    described_by: str
    settings: Callable[[str], Mapping[str, object]]
    variables: tuple[str, ...]
    cloud_region: str
    size: str
    theirs: Callable[[Any, dict[str, str]], str]  # a machine that somebody else made; its id
    unknown_id: str
    needs: tuple[str, ...] = ()
    spec: str | None = None
    name: str = ""

    def opened(self, url: str, token: str, timeout_s: float) -> CloudProvider:
        """Open the adapter of the cloud at an address."""
        settings = {"deployment": DEPLOYMENT, "timeout_s": timeout_s, **self.settings(url)}
        return open_provider(self.name, settings, dict.fromkeys(self.variables, token))


def _linode() -> Description:
    return described.openapi(SPECS / "linode-4.151.1.openapi.json.gz", "/v4", _LINODE)


def _gcp() -> Description:
    return described.openapi(SPECS / "gcp-compute-v1.openapi.json.gz", "/compute/v1", _GCP)


CASES: Mapping[str, Case] = {
    "gcp": Case(
        cloud=lambda launches: GcpCloud(TOKEN),
        description=_gcp,
        described_by="OpenAPI of Compute Engine v1",
        settings=lambda url: {"base_url": url, "project": "lab", "prices": {"e2-standard-2": 67_006}},
        variables=("GOOGLE_OAUTH_ACCESS_TOKEN",),
        cloud_region="europe-west3",
        size="e2-standard-2",
        theirs=lambda cloud, tags: cloud.add("theirs", tags),
        unknown_id="us-east1-b/nobody",
        name="gcp",
        needs=("google.cloud.compute_v1",),
        spec="gcp-compute-v1.openapi.json.gz",
    ),
    "linode": Case(
        cloud=lambda launches: LinodeCloud(TOKEN),
        description=_linode,
        described_by="OpenAPI 4.151.1",
        settings=lambda url: {"base_url": f"{url}/v4"},
        variables=("LINODE_TOKEN",),
        cloud_region="eu-central",
        size="g6-standard-2",
        theirs=lambda cloud, tags: cloud.add("theirs", words_of(tags)),
        unknown_id="999999",
        name="linode",
        needs=("linode_api4",),
        spec="linode-4.151.1.openapi.json.gz",
    ),
    "vultr": Case(
        cloud=lambda launches: VultrCloud(TOKEN),
        description=shapes.vultr,
        described_by="documented shapes of API v2",
        settings=lambda url: {"base_url": url},
        variables=("VULTR_API_KEY",),
        cloud_region="ams",
        size="vc2-2c-4gb",
        theirs=lambda cloud, tags: cloud.add("theirs", words_of(tags)),
        unknown_id="00000000-0000-4000-8000-000000000000",
        name="vultr",
    ),
    "own": Case(
        cloud=lambda launches: OwnCloud(launches, TOKEN),
        description=shapes.own,
        described_by="docs/reference/adapters.md",
        settings=lambda url: {"base_url": url},
        variables=("TENDRIL_OWN_TOKEN",),
        cloud_region="cellar",
        size="r1",
        theirs=lambda cloud, tags: cloud.hold("cellar-0001", tags),
        unknown_id="cellar-9999",
        name="own",
    ),
}


@contextmanager
def running(
    name: str, schedule: Schedule = never, machines: int = 50, timeout_s: float = 0.5, judged: bool = True
) -> Iterator[tuple[CloudProvider, FakeCloud]]:
    """Start a fake cloud and open its adapter."""
    case = CASES[name]
    with (
        FakeCloud(case.cloud(machines), schedule, case.description() if judged else None) as fake,
        closing(case.opened(fake.url, TOKEN, timeout_s)) as provider,
    ):
        yield provider, fake
