"""The API of one Kubernetes cluster as engines use it: objects in and out as JSON, written by server-side apply, errors in our words."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from earthself.provision.errors import EngineBusy, EngineFailed, ProvisionError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]
_SECONDS = 20
_LONGEST = 500
_MANAGER = "earthself"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
logging.getLogger("kubernetes.client.rest").setLevel(logging.INFO)  # it writes whole answers at DEBUG, tokens included
_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ResourceQuota": "/api/v1/{}resourcequotas",
    "LimitRange": "/api/v1/{}limitranges",
    "ServiceAccount": "/api/v1/{}serviceaccounts",
    "Secret": "/api/v1/{}secrets",
    "Pod": "/api/v1/{}pods",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/{}networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/{}roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/{}rolebindings",
}


class ClusterApi:
    """Reads, applies and deletes objects; a client of the library `kubernetes` brings address and credentials."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Read an object; None where there is none. Namespaces themselves are in the namespace ''."""
        return self._ask("GET", f"{_path(kind, namespace)}/{name}", missing=True)

    def find(self, kind: str, labels: str, namespace: str = "") -> list[Object]:
        """Read objects by a label selector, of all namespaces where none is named."""
        found = self._ask("GET", _path(kind, namespace), query=[("labelSelector", labels)])
        return list((found or {})["items"])

    def apply(self, body: Object) -> Object:
        """Bring an object to what is given, by server-side apply; gives its metadata, since the rest may be secret."""
        metadata = body["metadata"]
        path = f"{_path(body['kind'], metadata.get('namespace', ''))}/{metadata['name']}"
        query = [("fieldManager", _MANAGER), ("force", "true")]
        return self._ask("PATCH", path, query=query, body=body, kind="application/apply-patch+yaml", accept=_METADATA) or {}

    def delete(self, kind: str, namespace: str, found: Object) -> None:
        """Delete the very object that was read; none, and one that goes already, is no error."""
        body = {"preconditions": {"uid": found["metadata"]["uid"]}, "propagationPolicy": "Background"}
        self._ask("DELETE", f"{_path(kind, namespace)}/{found['metadata']['name']}", body=body, missing=True)

    def token(self, namespace: str, account: str, seconds: int) -> Object:
        """Ask for a token of a service account; the status says it, and when it expires."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        return dict((self._ask("POST", f"{_path('ServiceAccount', namespace)}/{account}/token", body=body) or {})["status"])

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._client.configuration.host)

    @property
    def authorities(self) -> str | None:
        """File with the certificates (PEM) that it is trusted by."""
        return self._client.configuration.ssl_ca_cert or None

    def _ask(self, method: str, path: str, **more: Any) -> Object | None:  # noqa: ANN401 - what the library takes
        """Ask; None for what is not there where `missing` is given."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        missing = more.pop("missing", False)
        headers = {"Accept": more.pop("accept", "application/json"), "Content-Type": more.pop("kind", "application/json")}
        try:
            answer = self._client.call_api(
                path, method, query_params=more.pop("query", []), header_params=headers, auth_settings=["BearerToken"],
                response_types_map=dict.fromkeys((200, 201, 202), "object"), _return_http_data_only=True, _request_timeout=_SECONDS, **more,
            )  # fmt: skip
        except ApiException as error:
            if error.status == 404 and missing:
                return None
            raise _explained(error.status, error.body, path) from None
        except (HTTPError, OSError) as error:
            away = f"the Kubernetes API at {self.address} gives no answer ({type(error).__name__}); check the connection"
            raise EngineBusy(away) from None
        return dict(answer)


def _path(kind: str, namespace: str) -> str:
    return _PATHS[kind].format(f"namespaces/{namespace}/" if namespace else "")


def _explained(status: int, body: str | bytes | None, path: str) -> ProvisionError:
    try:
        said = str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        said = str(body)
    said = said[:_LONGEST]
    if status in (409, 429) or status >= 500:
        return EngineBusy(f"the cluster cannot do it now ({status}): {said}")
    if status in (401, 403):
        return EngineFailed(f"the cluster does not let us ({status}, {path}): {said}")
    return EngineFailed(f"the cluster refuses it ({status}, {path}): {said}")
