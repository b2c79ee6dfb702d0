"""What the operator serves: probes for all, metrics for who may read them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from phasegate.adapters.doorkeeper import Doorkeeper, is_loopback
from phasegate.adapters.telemetry import StatusServer, Telemetry
from phasegate.adapters.tls import server_context
from phasegate.api.errors import ConfigError
from phasegate.control.rights import Reviewer, RightsCheck

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """Where it listens, and its certificate."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def guarded(self) -> bool:
        """Off loopback metrics are for those only whom the cluster allows to read them."""
        return not is_loopback(self.host)


@contextlib.asynccontextmanager
async def serving(
    endpoint: Endpoint,
    telemetry: Telemetry,
    reviewer: Reviewer,
    trouble: Callable[[], str | None],
    rights: RightsCheck,
) -> AsyncIterator[None]:
    """Serve while the block runs, and ask for the operator's own rights; raises ConfigError.

    A process that lacks a right is not ready, and does what it can all the same.
    """
    server = StatusServer(
        telemetry,
        healthy=trouble,
        ready=lambda: trouble() or rights.problem,
        doorkeeper=Doorkeeper(reviewer) if endpoint.guarded else None,
    )
    tls = None
    if endpoint.certificate is not None and endpoint.key is not None:
        tls = server_context(endpoint.certificate, endpoint.key)
    elif endpoint.guarded:
        _log.warning("tokens of who reads metrics come in clear: give --tls-certificate, --tls-key")
    try:
        await server.start(endpoint.host, endpoint.port, tls)
    except OSError as error:
        where = f"{endpoint.host}:{endpoint.port}"
        raise ConfigError(f"cannot listen on {where}: {error.strerror}") from error
    asking = asyncio.create_task(rights.run())
    try:
        yield
    finally:
        asking.cancel()
        await server.stop()
