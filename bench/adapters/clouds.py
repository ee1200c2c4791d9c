"""The clouds of the drill: an adapter, its fake, and the description that judges every request and answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.adapters.drill import DEPLOYMENT
from providers.adapters import open_provider
from providers.base import CloudProvider
from providers.fake import azure, described, keys, modelled, oracle, shapes
from providers.fake.gcp import GcpCloud
from providers.fake.linode import LinodeCloud
from providers.fake.own import OwnCloud
from providers.fake.server import Cloud, Description, FakeCloud, Fault, Request, Schedule, never
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
    environ: Callable[[str], Mapping[str, str]]  # the credentials, of which the token is the secret
    cloud_region: str
    size: str
    theirs: Callable[[Any, dict[str, str]], str]  # a machine that somebody else made; its id
    unknown_id: str
    needs: tuple[str, ...] = ()
    spec: str | None = None
    name: str = ""
    tls: bool = False
    spares: Callable[[Request], bool] = lambda request: False  # what meets no fault by chance

    def served(self, machines: int, schedule: Schedule = never, judged: bool = True) -> FakeCloud:
        """Return the fake, to be started."""
        description = self.description() if judged else None
        return FakeCloud(self.cloud(machines), schedule, description, keys.certificate()[0] if self.tls else None)

    def opened(self, url: str, token: str, timeout_s: float) -> CloudProvider:
        """Open the adapter of the cloud at an address."""
        settings = {"deployment": DEPLOYMENT, "timeout_s": timeout_s, **self.settings(url)}
        return open_provider(self.name, settings, self.environ(token))


@functools.cache
def _linode() -> Description:
    return described.openapi(SPECS / "linode-4.151.1.openapi.json.gz", "/v4", _LINODE)


@functools.cache
def _gcp() -> Description:
    return described.openapi(SPECS / "gcp-compute-v1.openapi.json.gz", "/compute/v1", _GCP)


def _azure_settings(url: str) -> Mapping[str, object]:
    way = {"base_url": url, "login_url": url, "ca_file": keys.certificate()[1], "launch_s": 0.5}
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q of-nobody"
    regions = ("germanywestcentral", "westeurope")
    subnets = {region: azure.subnet(region) for region in regions}
    prices = {"Standard_D2s_v5": 96_000}
    of = {"subscription": azure.SUBSCRIPTION, "resource_group": azure.GROUP}
    return {**way, **of, "subnets": subnets, "ssh_public_key": key, "prices": prices}


def _azure_environ(token: str) -> Mapping[str, str]:
    return {"AZURE_TENANT_ID": azure.TENANT, "AZURE_CLIENT_ID": azure.CLIENT, "AZURE_CLIENT_SECRET": token}


def _oracle_settings(url: str) -> Mapping[str, object]:
    regions = ("eu-frankfurt-1", "us-ashburn-1")
    subnets, images = ({r: of(r) for r in regions} for of in (oracle.subnet, oracle.image))
    prices = {"VM.Standard.E5.Flex:2:16": 92_000}
    return {"base_url": url, "compartment": oracle.COMPARTMENT, "subnets": subnets, "images": images, "prices": prices}


CASES: Mapping[str, Case] = {
    "azure": Case(
        cloud=lambda launches: azure.AzureCloud(TOKEN),
        description=modelled.azure,
        described_by="models of azure-mgmt-compute and azure-mgmt-network",
        settings=lambda url: _azure_settings(url.replace("http://", "https://")),
        environ=_azure_environ,
        cloud_region="westeurope",
        size="Standard_D2s_v5",
        theirs=lambda cloud, tags: cloud.add("theirs", tags),
        unknown_id="tendril-nobody",
        name="azure",
        needs=("azure.mgmt.compute", "azure.mgmt.network", "azure.identity"),
        tls=True,
        spares=lambda request: request.path.startswith(f"/{azure.TENANT}/"),
    ),
    "oracle": Case(
        cloud=lambda launches: oracle.OracleCloud(keys.oracle_profile(TOKEN)[1]),
        description=modelled.oracle,
        described_by="models of oci",
        settings=_oracle_settings,
        environ=lambda token: {"OCI_CONFIG_FILE": keys.oracle_profile(token)[0]},
        cloud_region="eu-frankfurt-1",
        size="VM.Standard.E5.Flex:2:16",
        theirs=lambda cloud, tags: cloud.add("theirs", tags),
        unknown_id="eu-frankfurt-1/ocid1.instance.oc1.eu-frankfurt-1.nobody",
        name="oracle",
        needs=("oci",),
    ),
    "gcp": Case(
        cloud=lambda launches: GcpCloud(TOKEN),
        description=_gcp,
        described_by="OpenAPI of Compute Engine v1",
        settings=lambda url: {
            "base_url": url,
            "project": "lab",
            "prices": {"e2-standard-2": 67_006},
            "launch_s": 0.5,  # a time-out of the question how the launch ended holds the connection that long
        },
        environ=lambda token: {"GOOGLE_OAUTH_ACCESS_TOKEN": token},
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
        environ=lambda token: {"LINODE_TOKEN": token},
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
        environ=lambda token: {"VULTR_API_KEY": token},
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
        environ=lambda token: {"TENDRIL_OWN_TOKEN": token},
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

    def chosen(request: Request, creates: bool) -> Fault | None:
        return None if case.spares(request) else schedule(request, creates)

    with (
        case.served(machines, chosen, judged) as fake,
        closing(case.opened(fake.url, TOKEN, timeout_s)) as provider,
    ):
        yield provider, fake
