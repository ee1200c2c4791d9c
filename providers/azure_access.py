"""The way to Azure's control API: credentials, the SDKs' clients without their retries, and their errors made typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from providers.base import AuthFailed, CloudError, NotConfigured
from providers.extras import sdk
from providers.refusals import Refusal, Words, never_sent, typed, unanswered

NAME = "azure"
_PUBLIC_LOGIN = "https://login.microsoftonline.com"


@dataclass(frozen=True, slots=True)
class Way:
    """Where the cloud is and who asks: a service principal where there is a ``secret``, else the machine."""

    subscription: str
    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    base_url: str = "https://management.azure.com"
    login_url: str = _PUBLIC_LOGIN
    ca_file: str = ""
    timeout_s: float = 30.0


class AzureAccess:
    """The clients of one subscription, and one way to ask them."""

    def __init__(self, way: Way, words: Words) -> None:
        self._way = way
        self._words = words
        core = sdk(NAME, "azure.core.exceptions")
        self._refused, self._failed = core.HttpResponseError, core.AzureError
        self._not_let_in = core.ClientAuthenticationError
        self._policies = sdk(NAME, "azure.core.pipeline.policies")
        self._arm_policies = sdk(NAME, "azure.mgmt.core.policies")
        self._rest = sdk(NAME, "azure.core.rest")
        self.if_missing = sdk(NAME, "azure.core").MatchConditions.IfMissing
        self._how = {
            "connection_timeout": way.timeout_s,
            "read_timeout": way.timeout_s,
            "connection_verify": way.ca_file or True,
        }
        self._credential = self._found_credential()
        self._transport = sdk(NAME, "azure.core.pipeline.transport").RequestsTransport(**self._how)
        self.compute = self._client("compute", "ComputeManagementClient")
        self._arm = sdk(NAME, "azure.mgmt.core").ARMPipelineClient(
            way.base_url, policies=self._new_policies(), transport=self._transport
        )
        self._network: Any = None  # of the cards' addresses alone, and slow to import

    def ask(self, operation: str, call: Callable[[], Any], hidden: tuple[str, ...] = ()) -> Any:
        """Return what a call of an SDK returns. Raises :class:`CloudError`."""
        secrets = (self._way.secret, *hidden)
        try:
            return call()
        except self._not_let_in as error:
            raise self._locked_out(operation, error, secrets) from None
        except self._refused as error:
            answer = error.response
            if answer is None or answer.status_code < 400:  # an answer that is no answer
                raise unanswered(NAME, operation, error, True, secrets) from None
            refusal = Refusal(answer.status_code, _said(answer), answer.headers)
            raise typed(NAME, operation, refusal, self._words, secrets) from None
        except self._failed as error:
            raise unanswered(NAME, operation, error, not never_sent(error), secrets) from None

    def pages(self, operation: str, call: Callable[..., Iterable[Any]]) -> list[Any]:
        """Return the rows of all pages of a listing."""
        return list(self.ask(operation, lambda: list(call(raw_response_hook=_is_page))))

    def first_page(self, operation: str, call: Callable[..., Any]) -> list[Any]:
        """Return the rows of the first page of a listing."""
        return list(self.ask(operation, lambda: next(call(raw_response_hook=_is_page).by_page())))

    def document(self, operation: str, path: str, api_version: str) -> Any:
        """Return an answer that no SDK in use has a model for."""
        return self._get(operation, f"{self._way.base_url}{path}?api-version={api_version}").json()

    def operation(self, operation: str, url: str, hidden: tuple[str, ...]) -> tuple[Any, float | None]:
        """Return what became of a long operation, and how long the cloud asks to wait before the next question."""
        if not url.startswith(f"{self._way.base_url}/"):  # the question carries the token
            raise LookupError(f"the operation is at {url}, not at {self._way.base_url}")
        answer = self._get(operation, url, hidden)
        wait = answer.headers.get("Retry-After", "")
        return answer.json(), float(wait) if wait.isdigit() else None

    def card(self, operation: str, card_id: str) -> Any:
        """Return a network card with its public addresses."""
        if self._network is None:
            self._network = self._client("network", "NetworkManagementClient")
        group, name = card_id.split("/")[4], card_id.rpartition("/")[2]
        cards, expand = self._network.network_interfaces, "ipConfigurations/publicIPAddress"
        return self.ask(operation, lambda: cards.get(group, name, expand=expand))

    def close(self) -> None:
        """Close connections."""
        self._transport.close()
        self._credential.close()

    def _get(self, operation: str, url: str, hidden: tuple[str, ...] = ()) -> Any:
        def get() -> Any:
            answer = self._arm.send_request(self._rest.HttpRequest("GET", url))
            answer.raise_for_status()
            return answer

        return self.ask(operation, get, hidden)

    def _found_credential(self) -> Any:
        identity, way = sdk(NAME, "azure.identity"), self._way
        private = {"disable_instance_discovery": way.login_url != _PUBLIC_LOGIN}
        more = {"authority": way.login_url, "retry_total": 0, **private, **self._how}
        try:
            if way.secret:
                return identity.ClientSecretCredential(way.tenant, way.client, way.secret, **more)
            return identity.DefaultAzureCredential(**more)
        except ValueError as error:
            raise NotConfigured(NAME, "open", str(error)) from None

    def _client(self, module: str, name: str) -> Any:
        way = self._way
        return getattr(sdk(NAME, f"azure.mgmt.{module}"), name)(
            self._credential,
            way.subscription,
            base_url=way.base_url,
            policies=self._new_policies(),
            transport=self._transport,
        )

    def _new_policies(self) -> list[Any]:
        """Return the SDK's own policies less those that try again or do what nobody asked for."""
        bearer = self._arm_policies.ARMChallengeAuthenticationPolicy(self._credential, f"{self._way.base_url}/.default")
        plain = self._policies
        return [plain.UserAgentPolicy("tendril"), plain.ContentDecodePolicy(), bearer, plain.CustomHookPolicy()]

    def _locked_out(self, operation: str, error: Any, secrets: tuple[str, ...]) -> CloudError:
        """Return what a refusal to let us in means; without a token nothing was sent."""
        answer, cause = error.response, error.__cause__
        if answer is None and isinstance(cause, self._failed) and getattr(cause, "response", None) is None:
            return unanswered(NAME, operation, cause, False, secrets)
        if answer is not None and answer.status_code >= 500:
            return unanswered(NAME, operation, error, False, secrets)
        status = 401 if answer is None or answer.status_code == 400 else answer.status_code
        said = str(error) if answer is None else _said(answer)
        refusal = Refusal(status, said, {} if answer is None else answer.headers)
        kind = typed(NAME, operation, refusal, self._words, secrets)
        return kind if status != 401 else AuthFailed(NAME, operation, kind.detail)


def _said(answer: Any) -> str:
    """Return the cloud's code and words, those of its details too: capacity hides there."""
    try:
        error = answer.json()["error"]
        parts = [error, *(error.get("details") or ())]
        return "; ".join(f"{p.get('code')}: {p.get('message')}" for p in parts)
    except (ValueError, LookupError, TypeError, AttributeError):
        return str(answer.text())


def _is_page(answer: Any) -> None:
    """Refuse what is no page: the SDK makes an empty list of any object. Raises :class:`LookupError`."""
    if answer.http_response.status_code == 200 and "value" not in answer.http_response.json():
        raise LookupError("value")
