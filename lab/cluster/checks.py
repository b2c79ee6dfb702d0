"""Ways to see that a part is ready, each cheap enough to be asked every 20 ms."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

Check = Callable[[], Awaitable[bool]]

_TIMEOUT_S = 1.0


def listens(address: str, port: int) -> Check:
    """Somebody accepts TCP connections there."""

    async def check() -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
        return False

    return check


def answers(
    address: str, port: int, path: str, ca: Path | None = None, host: str | None = None
) -> Check:
    """A GET of this path is answered with status 200 (over TLS if a CA is given).

    `host` is the name to be asked for, where it is not the address.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: {host or address}\r\nConnection: close\r\n\r\n"

    async def check() -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                return await _status(address, port, request.encode(), ca) == b"200"
        return False

    return check


async def _status(address: str, port: int, request: bytes, ca: Path | None) -> bytes:
    tls = ssl.create_default_context(cafile=str(ca)) if ca else None
    reader, writer = await asyncio.open_connection(address, port, ssl=tls)
    try:
        writer.write(request)
        return (await reader.readline()).split(b" ")[1:2][0]
    except IndexError:
        return b""
    finally:
        writer.close()


def exist(*files: Path) -> Check:
    """The files are there and not empty."""

    async def check() -> bool:
        return all(file.exists() and file.stat().st_size > 0 for file in files)

    return check
