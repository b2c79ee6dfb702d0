"""Lists and watch streams over HTTP, on connections of their own: no read or write waits for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from phasegate.adapters.access import Access, identified
from phasegate.adapters.kinds import path_of
from phasegate.adapters.mirror import Scope
from phasegate.adapters.watching import GRACE, PAGE, SILENCE, Event, Expired, Page, Silent
from phasegate.api.errors import ClusterError, NotFound, Refused

LIST_SECONDS: Final = 30.0
"""Seconds that one page may take."""
CONNECT_SECONDS: Final = 5.0
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
"""Of a watch; for a list, ``List`` goes in."""
_UNREACHABLE: Final = (aiohttp.ClientError, OSError, ConfigException, TimeoutError)


class ApiStreams:
    """`phasegate.adapters.watching.Source` at the API server."""

    def __init__(self, access: Access, client: ApiClient, *, silence: float = SILENCE) -> None:
        """`silence`: seconds without a byte after which a stream is dead."""
        self._access = access
        self._client = client
        self._silence = silence

    @classmethod
    async def connect(cls, access: Access) -> ApiStreams:
        """Streams with as many connections as there are kinds to watch. Raises ConfigError."""
        return cls(access, await access.client(0))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0)  # sockets close a turn after their connections

    async def page(self, scope: Scope, *, limit: int = PAGE, proceed: str = "") -> Page:
        """Up to `limit` objects."""
        query: dict[str, str | int] = {"limit": limit}
        if proceed:
            query["continue"] = proceed
        timeout = aiohttp.ClientTimeout(total=LIST_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            response = await self._open(scope, query, timeout)
            body = json.loads(await response.read())
            metadata = body["metadata"]
            items, version = body.get("items") or [], str(metadata["resourceVersion"])
        except _UNREACHABLE as error:
            raise _unreachable(scope, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"the list of {scope.kind.plural} cannot be read") from error
        return Page(items, version, str(metadata.get("continue") or ""))

    async def watch(self, scope: Scope, version: str) -> AsyncIterator[Event | None]:
        """What changed after `version`, until the stream ends or falls silent."""
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
        }
        total = None
        if scope.lasts is not None:
            query["timeoutSeconds"] = int(scope.lasts)
            total = scope.lasts + GRACE
        timeout = aiohttp.ClientTimeout(
            total=total, sock_connect=CONNECT_SECONDS, sock_read=self._silence
        )
        try:
            response = await self._open(scope, query, timeout)
            try:
                yield None  # from here on, time that runs out is a stream that is dead
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield _event(line)
            except TimeoutError as error:
                words = f"Cannot watch {scope.kind.plural}: the stream fell silent"
                raise Silent(words) from error
            finally:
                _hang_up(response)
        except _UNREACHABLE as error:
            raise _unreachable(scope, error) from error

    async def _open(
        self, scope: Scope, query: dict[str, str | int], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """A response that is a list or a stream; raises ClusterError for every other answer."""
        if scope.labels:
            query["labelSelector"] = scope.labels
        response = await self._request(scope, query, timeout)
        if response.status == 401:  # rotated credentials: read them again, once
            response.close()
            await self._access.sign_in_again(self._client)
            response = await self._request(scope, query, timeout)
        if response.status == 200:
            return response
        try:
            answer = json.loads(await response.read())
            words = str(answer["message"])
        except (ValueError, KeyError, TypeError):
            words = f"{scope.kind.plural}: HTTP {response.status}"
        finally:
            response.close()
        known: dict[int, type[ClusterError]] = {410: Expired, 404: NotFound, 403: Refused}
        raise known.get(response.status, ClusterError)(words)

    async def _request(
        self, scope: Scope, query: dict[str, str | int], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        configuration = self._client.configuration
        accept = _METADATA.format("" if "watch" in query else "List")
        if not scope.metadata_only:
            accept = "application/json"
        headers = {"Accept": accept} | await identified(self._client)
        answer = await self._client.call_api(
            "GET",
            f"{configuration.host}{path_of(scope.kind, scope.namespace)}?{urlencode(query)}",
            headers,
            _request_timeout=timeout,
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """End a stream at once: TLS would wait for the other side's farewell."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _event(line: bytes) -> Event:
    try:
        event: Any = json.loads(line)
    except ValueError as error:
        raise ClusterError("the stream says what is no JSON") from error
    if not isinstance(event, dict):
        raise ClusterError("the stream says what is no event")
    return event


def _unreachable(scope: Scope, error: Exception) -> ClusterError:
    words = str(error) or type(error).__name__
    return ClusterError(f"Cannot watch {scope.kind.plural}: {words}")
