"""What a cluster's refusals mean: to wait, to sign in again, or for a person to mend something."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from earthself.hooks.cluster import Cluster, ClusterAway, ClusterError, NotAllowed, QuotaUsedUp, _check

QUOTA = 'pods "es" is forbidden: exceeded quota: q, requested: {}, used: {}, limited: {}'

_TOKEN = """\
echo >>{count}
printf '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "t%d"}}}}' "$(wc -l <{count})"
"""
"""A program as clouds have them, which gives another token each time."""


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (QUOTA.format("pods=1", "pods=4", "pods=4"), QuotaUsedUp),
        (QUOTA.format("pods=1,requests.memory=4Gi", "pods=3,requests.memory=6Gi", "pods=4,requests.memory=8Gi"), QuotaUsedUp),
        (QUOTA.format("pods=1", "pods=0", "pods=0"), QuotaUsedUp),
        (QUOTA.format("requests.memory=9Gi", "requests.memory=0", "requests.memory=8Gi"), NotAllowed),
        ('pods "es" is forbidden: failed quota: q: must specify limits.cpu', NotAllowed),
        ('pods "es" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi', NotAllowed),
    ],
)
def test_only_room_that_others_can_give_back_is_waited_for(said: str, error: type[ClusterError]) -> None:
    with pytest.raises(error) as caught:
        _check(403, json.dumps({"message": said}).encode(), "/api/v1/namespaces/n/pods")
    assert type(caught.value) is error


async def _asked(answers: list[int], folder: Path) -> tuple[list[str], Any]:
    """Read a pod twice from a server that gives these answers, in turn; the tokens that it was shown, and what came of the second."""
    shown: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        shown.append(request.headers.get("authorization", ""))
        status = answers.pop(0)
        return web.json_response({"metadata": {}} if status == 200 else {"message": "no"}, status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script = folder / "token"
    script.write_text(_TOKEN.format(count=folder / "count"))
    signs = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": [str(script)], "interactiveMode": "Never"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {"exec": signs}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    cluster = Cluster("k", {"kube_config": json.dumps(config)}, away_seconds=1.0)
    try:
        async with cluster:
            await cluster.get("pods", "n", "p")
            try:
                return shown, await cluster.get("pods", "n", "p")
            except ClusterError as error:
                return shown, error
    finally:
        await runner.cleanup()


def test_a_token_that_ends_under_way_is_asked_for_anew(tmp_path: Path) -> None:
    shown, came = asyncio.run(_asked([200, 401, 200], tmp_path))
    assert came == {"metadata": {}}
    assert shown == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_right_that_stays_away_is_an_error_that_another_try_may_mend(tmp_path: Path) -> None:
    _, came = asyncio.run(_asked([200, *[403] * 40], tmp_path))
    assert type(came) is ClusterAway


def test_who_was_never_let_in_hears_it_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="renew its credentials"):
        asyncio.run(_asked([401], tmp_path))
