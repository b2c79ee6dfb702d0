"""The fence as the last thing before a request's bytes (`phasegate.control.fence`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp

from phasegate.api.errors import Fenced
from phasegate.control.fence import Fence

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_reqrep import ClientResponse
    from aiohttp.connector import Connection

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def fenced(fence: Fence) -> type[aiohttp.ClientRequest]:
    """The class of requests that ask `fence` before they change anything.

    To be given to a session as its `request_class`. A request that is stopped raises Fenced, and
    not one byte of it was sent.
    """

    class Request(aiohttp.ClientRequest):
        async def send(self, conn: Connection) -> ClientResponse:
            """Begin to send: a connection was got, however long that took."""
            if self.method not in _READS:
                fence.check()
            return await super().send(conn)

        async def write_bytes(
            self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
        ) -> None:
            """Send head and body, in a task that may start later than `send` ended."""
            try:
                if self.method not in _READS:
                    fence.check()
            except Fenced as error:
                if conn.protocol is not None:  # where the answer is waited for
                    conn.protocol.set_exception(error)
                return
            await super().write_bytes(writer, conn, content_length)

    return Request
