"""The node's API client, against a real HTTP server that behaves as the API server can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from lab.errors import LabError
from lab.node.client import ApiClient, ApiError, Change, Endpoint, load_kubeconfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def api(handler: Handler) -> AsyncIterator[ApiClient]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with (
        TestServer(application) as server,
        ApiClient(Endpoint(str(server.make_url("/")).rstrip("/"), None, "secret")) as client,
    ):
        yield client


def item(name: str, version: int, filler: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "filler": filler}


class Pods:
    """A list of pods and the watches that will be answered, one after the other."""

    def __init__(self, *watches: list[dict[str, Any]] | int) -> None:
        self.watches = list(watches)
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.asked.append("list")
            version = str(100 * self.asked.count("list"))
            listing = {"metadata": {"resourceVersion": version}, "items": [item("a", 1)]}
            return web.json_response(listing)
        self.asked.append(request.query["resourceVersion"])
        answer = self.watches.pop(0)
        if isinstance(answer, int):
            return web.json_response({"reason": "Expired", "message": "too old"}, status=answer)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in answer:
            await response.write(json.dumps(event).encode() + b"\n")
        return response


async def changes(client: ApiClient, count: int) -> list[Change]:
    seen: list[Change] = []
    stream = client.follow("/api/v1/pods")
    async for change in stream:
        seen.append(change)
        if len(seen) == count:
            break
    return seen


def names(seen: list[Change]) -> list[tuple[str, list[str]]]:
    return [(c.kind, [o["metadata"]["name"] for o in c.objects]) for c in seen]


async def test_a_watch_goes_on_from_the_last_version_it_saw() -> None:
    first = [{"type": "ADDED", "object": item("b", 101)}]
    bookmark = [{"type": "BOOKMARK", "object": item("", 150)}]
    last = [{"type": "DELETED", "object": item("b", 151)}]
    server = Pods(first, bookmark, last)
    async with api(server.answer) as client:
        seen = await changes(client, 3)
    assert names(seen) == [("SYNC", ["a"]), ("ADDED", ["b"]), ("DELETED", ["b"])]
    assert server.asked == ["list", "100", "101", "150"]


@pytest.mark.parametrize(
    "gone",
    [410, [{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "old"}}]],
)
async def test_a_version_that_is_gone_means_a_new_list(gone: int | list[dict[str, Any]]) -> None:
    server = Pods(gone, [{"type": "MODIFIED", "object": item("a", 201)}])
    async with api(server.answer) as client:
        seen = await changes(client, 3)
    assert names(seen) == [("SYNC", ["a"]), ("SYNC", ["a"]), ("MODIFIED", ["a"])]
    assert server.asked == ["list", "100", "list", "200"]


async def test_a_failing_watch_is_tried_again_without_a_new_list() -> None:
    server = Pods(500, [{"type": "MODIFIED", "object": item("a", 101)}])
    async with api(server.answer) as client:
        seen = await changes(client, 2)
    assert names(seen) == [("SYNC", ["a"]), ("MODIFIED", ["a"])]
    assert server.asked == ["list", "100", "100"]


async def test_objects_of_half_a_megabyte_pass() -> None:
    big = item("big", 101, filler="x" * 500_000)
    async with api(Pods([{"type": "ADDED", "object": big}]).answer) as client:
        seen = await changes(client, 2)
    assert seen[1].objects == (big,)


async def test_a_refusal_carries_the_servers_words() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer secret"
        return web.json_response({"reason": "Forbidden", "message": "no way"}, status=403)

    async with api(refuse) as client:
        with pytest.raises(ApiError, match="no way") as caught:
            await client.get("/api/v1/nodes/lab")
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


async def test_a_server_that_is_not_there_is_an_api_error() -> None:
    async with ApiClient(Endpoint("http://127.0.0.1:1", None, None)) as client:
        with pytest.raises(ApiError) as caught:
            await client.get("/")
    assert caught.value.status == 0


def test_a_kubeconfig_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config"
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://h:1/"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(config))
    assert load_kubeconfig(path) == Endpoint("http://h:1", None, "t")


@pytest.mark.parametrize("content", ["", "a: [", "current-context: x"])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(LabError, match=str(path)):
        load_kubeconfig(path)
