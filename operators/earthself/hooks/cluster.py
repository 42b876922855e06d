"""One Kubernetes cluster by its Airflow connection: timeouts, retries and errors of its API are here and nowhere else.

Objects are the API's own JSON: what a watch, a test's record and `kubectl get -o json` show is the same thing. It is imported when a pod
is needed, not with DAG files.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from earthself.data.errors import EarthSelfError

DEFAULT_CONN_ID = "kubernetes_default"
_ANSWER_SECONDS = 20.0
_AWAY_SECONDS = 300.0
"""How long an API server may be away before the task is given back to Airflow, which tries again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WATCH_SECONDS = 30
"""A watch is asked anew after this long: a connection that was cut without a word is found out."""
_SILENT_SECONDS = 60.0
_LONGEST_LINE = 2 << 20
"""Bytes of a line that are kept: a program may write without ever ending a line, and a pod's state (an event) is far smaller."""
_GROUPS = {"daskclusters": "/apis/kubernetes.dask.org/v1"}
"""Where kinds are found that are not in Kubernetes' core."""

Object = dict[str, Any]


class ClusterError(EarthSelfError):
    """The cluster does not do what it is asked (exit 1; the message holds its own words)."""


class ClusterAway(ClusterError):
    """The API server cannot be reached, is busy, or fails (exit 75)."""

    exit_code = 75
    retry = True


class NotFound(ClusterError):
    """The object, or its namespace, is not there (exit 69)."""

    exit_code = 69


class Exists(ClusterError):
    """An object of that name is there already, or was changed meanwhile."""


class NotAllowed(ClusterError):
    """The account may not do it, or not any more (exit 1)."""


class NotSignedIn(NotAllowed):
    """The account's credentials are not good, or not any more (exit 1)."""


class QuotaUsedUp(ClusterError):
    """The namespace has no room for the object now (exit 75: there will be, when others end)."""

    exit_code = 75
    retry = True


class Cluster:
    """The API of one cluster, for one event loop. Use it as an async context manager."""

    def __init__(
        self, conn_id: str = DEFAULT_CONN_ID, extras: Mapping[str, Any] | None = None, *, away_seconds: float = _AWAY_SECONDS
    ) -> None:
        """Name the Airflow connection; `extras` are its extra fields where the caller has read them already."""
        self._hook = AsyncKubernetesHook(conn_id=conn_id, connection_extras=None if extras is None else dict(extras))
        self._away_seconds = away_seconds
        self._open = AsyncExitStack()
        self._allowed: set[tuple[str, str]] = set()
        self._api: Any = None

    async def __aenter__(self) -> Self:
        await self._sign_in()
        return self

    async def _sign_in(self) -> None:
        """Read the connection's credentials anew: those of a cloud's own program live for minutes. Requests under way keep their client."""
        self._api = await self._open.enter_async_context(self._hook.get_conn())

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def create(self, kind: str, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        """Make an object, or only try; raises `Exists` where one of its name is there, `QuotaUsedUp` where there is no room for it now."""
        return await self._ask("POST", _path(kind, namespace), query=[("dryRun", "All")] if dry_run else (), body=body)

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Read an object; None where it is not there."""
        try:
            return await self._ask("GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def find(self, kind: str, namespace: str, labels: str) -> list[Object]:
        """Read the objects that a label selector matches."""
        found = await self._ask("GET", _path(kind, namespace), query=[("labelSelector", labels)])
        return list(found["items"])

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str | None = None, grace: int | None = None) -> None:
        """Delete an object, only the one with that uid where one is given; none of that kind is no error."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._ask("DELETE", _path(kind, namespace, name), body=options)
        except (NotFound, Exists):  # gone, or another one of its name is there
            return

    async def patch(self, kind: str, namespace: str, name: str, body: Object) -> None:
        """Change fields of an object; raises `NotFound`."""
        await self._ask("PATCH", _path(kind, namespace, name), body=body)

    async def states(self, namespace: str, pod: str) -> AsyncIterator[Object]:
        """Give a pod as it is and each time that it changes, until it is gone; the last one of a pod that was deleted is its last state."""
        path = _path("pods", namespace)
        while True:
            now = await self.get("pods", namespace, pod)
            if now is None:
                return
            yield now
            query = [
                ("watch", "true"),
                ("fieldSelector", f"metadata.name={pod}"),
                ("resourceVersion", now["metadata"]["resourceVersion"]),
                ("timeoutSeconds", str(_WATCH_SECONDS)),
            ]
            try:
                async for line in self._lines(path, query):
                    event = json.loads(line)
                    if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                        break  # such as a version that is too old: look anew
                    yield event["object"]
                    if event["type"] == "DELETED":
                        return
            except (ClusterAway, NotFound, ValueError):  # ValueError: a line that was cut
                await asyncio.sleep(_FIRST_PAUSE)

    async def log(self, namespace: str, pod: str, container: str, *, since: str | None, follow: bool) -> AsyncIterator[bytes]:
        """Give the lines of a container's log, each with its time before it and its newline; the last may lack that.

        Raises `ClusterAway` where the stream is cut, `NotFound` where there is no log (yet).
        """
        query = [("container", container), ("timestamps", "true"), ("follow", str(follow).lower())]
        if since is not None:
            query.append(("sinceTime", since))
        async for line in self._lines(_path("pods", namespace, pod) + "/log", query):
            yield line

    async def _ask(self, method: str, path: str, *, query: Any = (), body: Object | None = None) -> Object:  # noqa: ANN401
        """Ask until there is an answer: every request may be sent twice, since names are ours and deletions name a uid."""
        pause, until = _FIRST_PAUSE, asyncio.get_running_loop().time() + self._away_seconds
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._send(method, path, query, body, aiohttp.ClientTimeout(total=_ANSWER_SECONDS))
                    text = await answer.read()
                _check(answer.status, text, path)
                self._allowed.add((method, _kind(path)))
                return dict(json.loads(text))
            except (aiohttp.ClientError, TimeoutError, OSError, ClusterAway, NotAllowed) as error:
                if isinstance(error, NotAllowed):
                    reads = method == "GET" and ("GET", _kind(path)) in self._allowed
                    if not (self._allowed if isinstance(error, NotSignedIn) else reads):
                        raise
                    await self._sign_in()  # it was allowed before: a token that has ended, or a server that does not know us yet
                if asyncio.get_running_loop().time() + pause > until:
                    away = str(error) or type(error).__name__
                    raise ClusterAway(
                        f"the Kubernetes API at {self._api.configuration.host} gives no answer for {self._away_seconds:g} s ({away}); "
                        "check the connection and the cluster"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _lines(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        timeout = aiohttp.ClientTimeout(sock_connect=_ANSWER_SECONDS, sock_read=_SILENT_SECONDS)
        try:
            answer = await self._send("GET", path, query, None, timeout)
            try:
                if answer.status != 200:
                    _check(answer.status, await answer.read(), path)
                rest = b""
                async for chunk in answer.content.iter_any():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield line[:_LONGEST_LINE] + b"\n"
                    rest = rest[:_LONGEST_LINE]
                if rest:
                    yield rest
            finally:
                answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError, NotSignedIn) as error:
            if isinstance(error, NotSignedIn) and not self._allowed:
                raise
            raise ClusterAway(f"{path} was cut off ({error or type(error).__name__})") from error

    async def _send(self, method: str, path: str, query: Any, body: Object | None, limits: aiohttp.ClientTimeout) -> Any:  # noqa: ANN401
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": content}
        words = list(query)
        await self._api.update_params_for_auth(headers, words, ["BearerToken"])
        return await self._api.rest_client.request(
            method, self._api.configuration.host + path, headers=headers, query_params=words, body=body,
            _preload_content=False, _request_timeout=limits,
        )  # fmt: skip


def _kind(path: str) -> str:
    return path.partition("/namespaces/")[2].split("/")[1]


def _path(kind: str, namespace: str, name: str | None = None) -> str:
    return f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{namespace}/{kind}" + ("" if name is None else f"/{name}")


_QUOTA = re.compile(r"exceeded quota: [^,]+, requested: (?P<requested>.+), used: .+, limited: (?P<limited>.+)")
"""What the API server says where a quota has no room; the three lists name the same resources (`name=quantity,…`)."""


def _never_fits(requested: str, limited: str) -> bool:
    """Whether more is asked for than a quota has in all; one of nothing at all is how a namespace is closed for a while."""
    from kubernetes.utils.quantity import parse_quantity

    try:
        asked, most = (dict(one.partition("=")[::2] for one in text.split(",")) for text in (requested, limited))
        return any(parse_quantity(amount) > parse_quantity(most[name]) > 0 for name, amount in asked.items() if name in most)
    except ValueError:
        return False


def _check(status: int, text: bytes, path: str) -> None:
    """Turn a refusal into the error that says whose fault it is."""
    if 200 <= status <= 299:
        return
    try:
        said = str(json.loads(text).get("message", ""))
    except (ValueError, AttributeError):
        said = text[:500].decode(errors="replace")
    if status == 404:
        raise NotFound(f"the cluster has no {path} ({said}); check namespace and connection")
    if status == 409:
        raise Exists(said)
    if status == 429 or status >= 500:
        raise ClusterAway(f"the Kubernetes API answers {status} ({said})")
    if status == 403 and (quota := _QUOTA.search(said)) and not _never_fits(quota["requested"], quota["limited"]):
        raise QuotaUsedUp(said)
    if status == 401:
        raise NotSignedIn(f"the cluster does not know the connection's account ({said}); renew its credentials")
    if status == 403:
        raise NotAllowed(f"the cluster does not allow it ({said}); give the connection's account that right")
    raise ClusterError(f"the cluster refuses {path} ({status}: {said})")
