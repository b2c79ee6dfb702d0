"""How one request passes the proxy: forwarded, or done to it what a rule says."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web

from lab.faults.actions import Action, Answer, Call, Cut, Delay, Expire, Hang, Silence
from lab.faults.requests import Seen, understand
from lab.faults.rules import Rule

# Between two neighbours only, or made anew by the client library.
_OWN_HEADERS = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade")
)
# Of the event loop, in which a waiting task notices that it need not wait any more.
_TURNS = 10
_EXPIRED = {
    "apiVersion": "v1",
    "kind": "Status",
    "metadata": {},
    "status": "Failure",
    "message": "too old resource version: a fault of the test's",
    "reason": "Expired",
    "code": 410,
}
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class _Lost(Exception):
    """The connection to the client is to be closed without (more of) an answer."""


class Passing:
    """Forwards to one API server; lives on the proxy's event loop."""

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext,
        rules: Callable[[], Sequence[Rule]],
        note: Callable[[Seen], None],
    ) -> None:
        self._server, self._rules, self._note = server, rules, note
        self._changed = asyncio.Event()
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._client.close()

    async def rules_changed(self) -> None:
        """Whoever waits because of a rule looks again; it has when this returns."""
        self._changed.set()
        self._changed = asyncio.Event()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request of a client."""
        seen = understand(
            request.method,
            request.path,
            request.query,
            request.headers.get("Content-Type", ""),
            await request.read(),
            time.time(),
        )
        delivery = _Delivery(seen, self._note)
        try:
            rule = next((rule for rule in self._rules() if rule.takes(seen)), None)
            return await self._serve(request, delivery, rule)
        except (_Lost, aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)  # goes nowhere
        finally:
            delivery.end(0)

    async def _serve(
        self, request: web.Request, delivery: _Delivery, rule: Rule | None
    ) -> web.StreamResponse:
        action: Action | None = None if rule is None else rule.action
        match action:
            case Answer():
                delivery.end(action.status)
                return _answer(action)
            case Hang(forwarded=False):
                await self._until_removed(rule)
                raise _Lost
            case Cut(forwarded=False):
                raise _Lost
            case Delay():
                await asyncio.sleep(action.seconds)
            case Call(before=before) if before is not None:
                if before(delivery.seen) is False:
                    raise _Lost
            case _:
                pass
        return await self._forward(request, delivery, rule)

    async def _forward(
        self, request: web.Request, delivery: _Delivery, rule: Rule | None
    ) -> web.StreamResponse:
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _OWN_HEADERS]
        async with self._client.request(
            request.method,
            # The path as it came: encoded names must arrive as they were sent.
            f"{self._server}{request.raw_path}",
            headers=headers,
            data=delivery.seen.body or None,
            allow_redirects=False,
        ) as response:
            if delivery.seen.verb == "watch" and response.status == HTTPStatus.OK:
                delivery.end(response.status)
                return await self._stream(request, delivery.seen, response, rule)
            body = await response.read()
        match None if rule is None else rule.action:
            case Hang():
                await self._until_removed(rule)
                raise _Lost
            case Cut():
                raise _Lost
            case Call(after=after) if after is not None:
                if after(replace(delivery.seen, status=response.status)) is False:
                    raise _Lost
            case _:
                pass
        delivery.end(response.status)
        return web.Response(status=response.status, headers=_passed_on(response), body=body)

    async def _stream(
        self, request: web.Request, seen: Seen, upstream: aiohttp.ClientResponse, own: Rule | None
    ) -> web.StreamResponse:
        """A watch: what the API server says, until a rule has something against it."""
        response = web.StreamResponse(status=upstream.status, headers=_passed_on(upstream))
        await response.prepare(request)
        reading: asyncio.Future[bytes] | None = None
        try:
            while True:
                match self._against(seen, own):
                    case Silence() | Hang():
                        await self._until_cut(seen, own)
                    case Cut():
                        raise _Lost
                    case Expire():
                        event = json.dumps({"type": "ERROR", "object": _EXPIRED})
                        await response.write(event.encode() + b"\n")
                        break
                    case _:
                        pass
                reading = reading or asyncio.ensure_future(upstream.content.readany())
                await self._either(reading)
                if reading.done():
                    if not (chunk := reading.result()):
                        break
                    reading = None
                    if not isinstance(self._against(seen, own), Silence | Hang | Cut):
                        await response.write(chunk)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        await response.write_eof()
        return response

    def _against(self, seen: Seen, own: Rule | None) -> Action | None:
        """What the newest rule about open watches says of this one; `own`: that took it as new."""
        kinds = (Silence, Hang, Cut, Expire)
        for rule in self._rules():
            meant = rule is own or (rule.unlimited and rule.match(seen))
            if meant and isinstance(rule.action, kinds):
                return rule.action
        return None

    async def _either(self, reading: asyncio.Future[bytes]) -> None:
        """Until there is something to read, or the rules have changed."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            either: set[asyncio.Future[Any]] = {reading, changed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)

    async def _until_cut(self, seen: Seen, own: Rule | None) -> None:
        """A stream that fell silent stays so until the client gives up, or somebody cuts it."""
        while not isinstance(self._against(seen, own), Cut):
            await self._changed.wait()
        raise _Lost

    async def _until_removed(self, rule: Rule | None) -> None:
        while rule in self._rules():
            await self._changed.wait()


class _Delivery:
    """Notes one request once, when it is known what became of it."""

    def __init__(self, seen: Seen, note: Callable[[Seen], None]) -> None:
        self.seen, self._note, self._noted = seen, note, False

    def end(self, status: int) -> None:
        if not self._noted:
            self._noted = True
            self._note(replace(self.seen, status=status))


def _passed_on(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    return [(k, v) for k, v in response.headers.items() if k.lower() not in _OWN_HEADERS]


def _answer(action: Answer) -> web.Response:
    status: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": action.message,
        "reason": action.reason or _REASONS.get(action.status, "Unknown"),
        "code": action.status,
    }
    return web.json_response(status, status=action.status, headers=dict(action.headers))
