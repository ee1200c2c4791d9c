"""The way to Oracle's control APIs: credentials, a client for each service and region, and their errors made typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from providers.base import NotConfigured, Transient
from providers.extras import sdk
from providers.refusals import Refusal, Words, never_sent, typed, unanswered

NAME = "oracle"
_PAGE = 1000  # the most that the API gives at once
_SERVICES = {
    "compute": ("oci.core", "ComputeClient"),
    "network": ("oci.core", "VirtualNetworkClient"),
    "identity": ("oci.identity", "IdentityClient"),
    "limits": ("oci.limits", "LimitsClient"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """Who asks: a profile of the SDK's own file, or the machine itself; ``base_url`` is empty for the SDK's own."""

    profile_file: str = ""
    profile: str = ""
    instance_principal: bool = False
    base_url: str = ""
    timeout_s: float = 30.0


class OracleAccess:
    """The clients of one tenancy, and one way to ask them."""

    def __init__(self, way: Way, words: Words) -> None:
        self._way = way
        self._words = words
        self._oci = sdk(NAME, "oci")
        self.models = sdk(NAME, "oci.core").models
        errors = sdk(NAME, "oci.exceptions")
        self._refused = errors.ServiceError
        self._failed = (errors.RequestException, errors.ConnectTimeout)
        self._config, self._signer = self._found_credentials(errors)
        self._clients: dict[tuple[str, str], Any] = {}
        self.home = str(self._config["region"])
        self.tenancy = str(self._config["tenancy"])

    def client(self, service: str, region: str) -> Any:
        """Return the SDK's client of a service in a region, without retries and circuit breakers of its own."""
        if (service, region) not in self._clients:
            way, (module, name) = self._way, _SERVICES[service]
            where = {"service_endpoint": f"{way.base_url}/{service}/{region}"} if way.base_url else {}
            self._clients[service, region] = getattr(sdk(NAME, module), name)(
                {**self._config, "region": region},
                signer=self._signer,
                timeout=(way.timeout_s, way.timeout_s),
                retry_strategy=self._oci.retry.NoneRetryStrategy(),
                circuit_breaker_strategy=self._oci.circuit_breaker.NoCircuitBreakerStrategy(),
                **where,
            )
        return self._clients[service, region]

    def ask(self, operation: str, call: Callable[[], Any], hidden: tuple[str, ...] = (), changes: bool = True) -> Any:
        """Return an answer; ``changes`` is false for a question before a launch, whose failure leaves nothing done."""
        try:
            return call()
        except self._refused as error:
            refusal = Refusal(int(error.status), f"{error.code}: {error.message}", error.headers or {})
            kind = typed(NAME, operation, refusal, self._words, hidden)
            if isinstance(kind, Transient) and not changes:
                kind.outcome_unknown = False
            raise kind from None
        except self._failed as error:
            raise unanswered(NAME, operation, error, changes and not never_sent(error), hidden) from None

    def pages(self, operation: str, call: Callable[..., Any], *about: str, **more: str) -> list[Any]:
        """Return the rows of all pages of a listing."""
        answer = self.ask(operation, partial(call, *about, limit=_PAGE, **more))
        rows = rows_of(answer)
        while answer.has_next_page:
            answer = self.ask(operation, partial(call, *about, limit=_PAGE, page=answer.next_page, **more))
            rows += rows_of(answer)
        return rows

    def close(self) -> None:
        """Close connections."""
        for client in self._clients.values():
            client.base_client.session.close()

    def _found_credentials(self, errors: Any) -> tuple[dict[str, Any], Any]:
        way, config = self._way, self._oci.config
        try:
            if way.instance_principal:
                signer = sdk(NAME, "oci.auth.signers").InstancePrincipalsSecurityTokenSigner()
                return {"region": signer.region, "tenancy": signer.tenancy_id}, signer
            found = config.from_file(way.profile_file or config.DEFAULT_LOCATION, way.profile or config.DEFAULT_PROFILE)
            config.validate_config(found)
            return dict(found), self._oci.signer.Signer.from_config(found)
        except (errors.ClientError, *self._failed, self._refused, OSError, ValueError) as error:
            raise NotConfigured(NAME, "open", f"credentials: {type(error).__name__}: {error}") from None


def told(value: Any) -> Any:
    """Return what an answer has to say: the SDK makes an empty object of anything that is JSON."""
    if value is None:
        raise LookupError("a field that the cloud always tells is missing")
    return value


def rows_of(answer: Any) -> list[Any]:
    """Return the rows of a page. Raises :class:`TypeError`."""
    if not isinstance(answer.data, list):
        raise TypeError("the answer is no list")
    return answer.data
