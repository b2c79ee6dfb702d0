"""Lists and watches against an API server's own words, and every way a stream can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.mirror import Mirror, Scope
from phasegate.adapters.streams import ApiStreams
from phasegate.adapters.watching import LONGEST, Reflector
from phasegate.api.errors import ClusterError, Refused
from phasegate.control import kinds
from phasegate.control.ports import Kind, Manifest

from tests.adapters.apiserver import ApiServer, serve, write_kubeconfig
from tests.control.fakes import VirtualClock


class Watched:
    """A reflector at work, and what it told."""

    def __init__(self, server: ApiServer, streams: ApiStreams, scope: Scope, file: Path) -> None:
        self.server = server
        self.file = file
        self.clock = VirtualClock()
        self.mirror = Mirror(scope, self.clock.monotonic)
        self.told: list[str] = []
        self.buggy = False
        self.reflector = Reflector(streams, self.mirror, self.tell, self.clock, lambda: 0.0)

    def tell(self, kind: Kind, manifest: Manifest) -> None:
        self.told.append(manifest["metadata"]["name"])
        if self.buggy:
            raise RuntimeError("bug")

    async def until(self, condition: Callable[[], bool], *, meanwhile: float = 0.0) -> None:
        """Wait for a condition, time passing `meanwhile`; the test's own time limit ends it."""
        while not condition():
            await self.clock.advance(meanwhile)

    async def hears(self, *names: str) -> None:
        """Wait until exactly these were told since the last time."""
        await self.until(lambda: len(self.told) >= len(names))
        assert sorted(self.told) == sorted(names)
        self.told.clear()

    async def streams_again(self, times: int) -> None:
        """Wait for that many streams, time passing meanwhile."""
        streams = self.server.requests
        await self.until(lambda: sum("watch" in q for q in streams) == times, meanwhile=0.1)

    def held(self) -> set[str]:
        return {name for _, name in self.mirror.names()}


@asynccontextmanager
async def watching(folder: Path, *names: str, scope: Scope | None = None) -> AsyncIterator[Watched]:
    async with serve(folder) as (server, streams, file):
        for name in names:
            server.put(name)
        watched = Watched(server, streams, scope or Scope(kinds.ROLLBACK_POLICY), file)
        task = asyncio.ensure_future(watched.reflector.run())
        try:
            yield watched
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_everything_is_listed_page_by_page_and_told(tmp_path: Path) -> None:
    async with watching(tmp_path, "a", "b", "c", "d", "e") as watched:
        await watched.reflector.synced.wait()
        await watched.hears("a", "b", "c", "d", "e")
        assert watched.mirror.fresh
        lists = [q for q in watched.server.requests if "watch" not in q]
        assert [q.get("continue") for q in lists] == [None, "2", "4"]


async def test_changes_arrive_and_go_into_the_mirror(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        watched.told.clear()
        watched.server.put("a", metrics=[1])
        watched.server.put("b")
        await watched.hears("a", "b")
        assert (watched.mirror.get("shop", "a") or {})["spec"] == {"metrics": [1]}
        watched.server.remove("a")
        await watched.hears("a")
        assert watched.held() == {"b"}


async def test_events_may_come_in_pieces_of_any_size(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        await watched.server.watched()
        line = b'{"type":"ADDED","object":{"metadata":{"namespace":"shop","name":"a","resourceVersion":"200"}}}\n'
        for byte in range(len(line)):
            watched.server.send(line[byte : byte + 1])
        await watched.hears("a")


async def test_a_stream_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        bookmark = {"metadata": {"resourceVersion": "170"}}
        watched.server.say("BOOKMARK", bookmark)
        watched.server.send(None)
        await watched.server.watched(2)
        assert watched.server.requests[-1]["resourceVersion"] == "170"
        assert sum("watch" not in q for q in watched.server.requests) == 1


async def test_what_vanished_while_nobody_watched_is_told_after_the_list(tmp_path: Path) -> None:
    async with watching(tmp_path, "a", "b", "c") as watched:
        await watched.server.watched()
        watched.told.clear()
        watched.server.remove("b", quietly=True)
        watched.server.objects["c"]["metadata"]["resourceVersion"] = "150"  # changed unheard
        watched.server.version = 150
        watched.server.expire()
        await watched.streams_again(2)
        await watched.hears("b", "c")
        assert watched.held() == {"a", "c"}


async def test_a_storm_of_expiries_is_waited_out_and_never_for_long(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        watched.server.refusals = [(410, "too old")] * 20
        watched.server.expire()
        await watched.until(lambda: not watched.server.refusals, meanwhile=1.0)
        await watched.streams_again(2)
        assert watched.clock.monotonic() < 21 * LONGEST + 60
        watched.told.clear()
        watched.server.put("b")
        await watched.hears("b")


async def test_streams_that_open_only_to_say_that_they_expired_are_paced(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        for number in range(1, 9):
            await watched.streams_again(number)
            watched.server.expire()
        await watched.streams_again(9)
        assert watched.clock.monotonic() > 2 * LONGEST


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
async def test_a_refused_list_is_tried_again_for_ever(tmp_path: Path, code: int) -> None:
    async with serve(tmp_path) as (server, streams, file):
        server.refusals = [(code, "not now")] * 10
        watched = Watched(server, streams, Scope(kinds.ROLLBACK_POLICY), file)
        task = asyncio.ensure_future(watched.reflector.run())
        await watched.until(lambda: watched.reflector.problem is not None)
        assert not watched.mirror.synced
        await watched.until(lambda: watched.mirror.synced, meanwhile=1.0)
        assert not server.refusals
        assert watched.reflector.problem is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_page_says_in_the_servers_words_what_is_forbidden(tmp_path: Path) -> None:
    async with serve(tmp_path) as (server, streams, _):
        server.refusals = [(403, 'policies is forbidden: User "x" cannot list')]
        with pytest.raises(Refused, match="cannot list"):
            await streams.page(Scope(kinds.ROLLBACK_POLICY))


async def test_a_malformed_object_costs_nobody_else_their_news(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        watched.told.clear()
        malformed: list[Any] = [{"metadata": {}}, {"metadata": None}, {}, [], None, 7, "x"]
        for broken in malformed:
            watched.server.say("ADDED", broken)
        watched.server.say("SOMETHING", {"metadata": {"resourceVersion": "160"}})
        watched.server.put("b")
        await watched.hears("b")
        assert len(watched.server.watches) == 1


async def test_a_malformed_object_in_a_list_is_left_out(tmp_path: Path) -> None:
    async with serve(tmp_path) as (server, streams, file):
        server.put("a")
        server.objects["b"] = {"metadata": {"name": "b"}}
        server.put("c")
        watched = Watched(server, streams, Scope(kinds.ROLLBACK_POLICY), file)
        task = asyncio.ensure_future(watched.reflector.run())
        await watched.reflector.synced.wait()
        assert watched.held() == {"a", "c"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_line_that_is_no_json_begins_a_new_stream(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        watched.server.send(b"<html>proxy</html>\n")
        await watched.until(lambda: watched.reflector.problem is not None)
        await watched.streams_again(2)
        watched.told.clear()
        watched.server.put("b")
        await watched.hears("b")


async def test_a_bug_in_what_is_told_does_not_end_the_watch(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        await watched.server.watched()
        watched.buggy = True
        watched.server.put("a")
        watched.server.put("b")
        await watched.hears("a", "b")


async def test_rotated_credentials_are_read_again(tmp_path: Path) -> None:
    async with watching(tmp_path, "a") as watched:
        await watched.server.watched()
        watched.server.tokens = {"two"}
        port = int(watched.file.read_text().partition("127.0.0.1:")[2].split()[0])
        write_kubeconfig(watched.file, port, "two")
        watched.server.send(None)
        await watched.streams_again(2)
        watched.told.clear()
        watched.server.put("b")
        await watched.hears("b")


async def test_streams_ask_for_bookmarks_and_for_metadata_only_where_that_is_enough(
    tmp_path: Path,
) -> None:
    scope = Scope(
        kinds.CONFIG_MAP,
        "shop",
        labels="app.kubernetes.io/managed-by!=phasegate",
        metadata_only=True,
        lasts=30,
    )
    async with watching(tmp_path, "a", scope=scope) as watched:
        await watched.server.watched()
        listed, streamed = watched.server.requests
        assert "as=PartialObjectMetadataList" in listed["accept"]
        assert "as=PartialObjectMetadata;" in streamed["accept"]
        assert listed["path"] == "/api/v1/namespaces/shop/configmaps"
        assert streamed["allowWatchBookmarks"] == "true"
        assert streamed["timeoutSeconds"] == "30"
        assert streamed["labelSelector"] == "app.kubernetes.io/managed-by!=phasegate"


async def test_a_silent_stream_is_given_up(tmp_path: Path) -> None:
    async with serve(tmp_path) as (_, _, file):
        access = Access(file)
        streams = ApiStreams(access, await access.client(0), silence=0.05)
        events = streams.watch(Scope(kinds.ROLLBACK_POLICY), "1")
        assert await anext(events) is None
        with pytest.raises(ClusterError, match="Cannot watch rollbackpolicies"):
            await anext(events)
        await streams.close()


async def test_what_streams_never_tell_is_found_by_a_list_once_two_fell_silent(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path) as (server, _, file):
        access = Access(file)
        streams = ApiStreams(access, await access.client(0), silence=0.05)
        watched = Watched(server, streams, Scope(kinds.ROLLBACK_POLICY), file)
        task = asyncio.ensure_future(watched.reflector.run())
        await server.watched()
        server.put("b", quietly=True)
        await watched.streams_again(2)
        assert watched.told == []  # one may be lost with its connection, and the next goes on
        await watched.until(lambda: watched.told == ["b"], meanwhile=0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await streams.close()
