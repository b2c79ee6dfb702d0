"""``phasegate operator``: puts the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from phasegate.adapters import logs
from phasegate.adapters.access import Access
from phasegate.adapters.config import OperatorConfig, load_config
from phasegate.adapters.garbage import collect_rarely
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.mirror import Scope
from phasegate.adapters.server_clock import ServerClock
from phasegate.adapters.streams import ApiStreams
from phasegate.adapters.telemetry import Telemetry
from phasegate.api.errors import ClusterError, ConfigError, NotFound
from phasegate.cli.endpoint import Endpoint, serving
from phasegate.cli.parts import Connections, Parts, Setting
from phasegate.control.fence import Fence
from phasegate.control.kinds import AGENT_DEPLOYMENT
from phasegate.control.lease import Elector, LeaseSettings
from phasegate.control.rights import (
    AGENT_RIGHTS,
    CLUSTER_RIGHTS,
    RightsCheck,
    endpoint_rights,
    lease_rights,
    price_right,
)

CONNECTIONS: Final = 32
URGENT_CONNECTIONS: Final = 8
REVIEW_CONNECTIONS: Final = 2
START_RETRY: Final = 1.0
"""Seconds between looks at an API server that does not answer yet."""


class LeadershipLost(Exception):
    """Somebody else may be leading by now: this process must end."""


@dataclass(frozen=True)
class Options:
    """What the command line and the environment say."""

    access: Access
    config: OperatorConfig
    namespaces: tuple[str, ...]
    workers: int
    endpoint: Endpoint
    lease: LeaseSettings | None
    identity: str


@dataclass
class Operator:
    """All parts of one process, and what they share."""

    options: Options
    cluster: KubernetesCluster
    urgent: KubernetesCluster
    reviews: KubernetesCluster
    streams: ApiStreams
    telemetry: Telemetry
    clock: ServerClock
    elector: Elector | None
    trouble: str | None = None
    """Why this process should be restarted."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, options: Options) -> Any:
        """Connect; closes the connections at the end.

        Only the election and questions about rights are not fenced: each has connections of its own.
        """
        telemetry, clock, elector = Telemetry(), ServerClock(), None
        telemetry.watch_clock(lambda: clock.ahead)
        async with contextlib.AsyncExitStack() as stack:

            async def connect(connections: int, fence: Fence | None) -> KubernetesCluster:
                cluster = await KubernetesCluster.connect(
                    options.access,
                    connections=connections,
                    on_call=telemetry.called,
                    on_date=clock.heard,
                    fence=fence,
                )
                stack.push_async_callback(cluster.close)
                return cluster

            if options.lease is not None:
                elector = Elector(await connect(2, None), clock, options.lease)
            cluster = await connect(CONNECTIONS, elector)
            urgent = await connect(URGENT_CONNECTIONS, elector)
            reviews = await connect(REVIEW_CONNECTIONS, None)
            streams = await ApiStreams.connect(options.access)
            stack.push_async_callback(streams.close)
            yield cls(options, cluster, urgent, reviews, streams, telemetry, clock, elector)

    async def run(self) -> None:
        """Serve the probes, become the leader, act until that ends."""
        elector = self.elector
        if elector is not None:
            self.telemetry.watch_leadership(lambda: elector.leading)
        ways = (self.telemetry, self.reviews, lambda: self.trouble, self._rights())
        async with serving(self.options.endpoint, *ways):
            try:
                await self._installed()
                await self._act(elector)
            finally:
                if elector is not None:
                    await elector.release()

    def _rights(self) -> RightsCheck:
        lease, prices = self.options.lease, self.options.config.prices
        rights = (
            *AGENT_RIGHTS,
            *CLUSTER_RIGHTS,
            *(endpoint_rights() if self.options.endpoint.guarded else ()),
            *(lease_rights(lease.name) if lease is not None else ()),
            *((price_right(prices.namespace, prices.name),) if prices is not None else ()),
        )
        where = lease.namespace if lease is not None else ""
        return RightsCheck(self.reviews, self.clock, rights, self._namespaces(), where)

    async def _installed(self) -> None:
        """Wait for the API server; without its kinds this process is of no use."""
        while True:
            try:
                for namespace in self._namespaces():
                    await self.streams.page(Scope(AGENT_DEPLOYMENT, namespace), limit=1)
            except NotFound as error:
                raise ConfigError(
                    f"the API server does not know Phasegate's kinds ({error}): "
                    "kubectl apply -k crds"
                ) from error
            except ClusterError as error:
                self.trouble = f"the API server does not answer: {error}"
                await self.clock.sleep(START_RETRY)
            else:
                self.trouble = None
                return

    async def _act(self, elector: Elector | None) -> None:
        """Watch, stand by until this process leads, then lead until one part ends."""
        options = self.options
        setting = Setting(options.config, options.namespaces, options.workers, options.identity)
        connections = Connections(self.cluster, self.urgent, self.streams, elector)
        parts = Parts(setting, connections, self.telemetry, self.clock)
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts.watch():
                    group.create_task(part)
                if elector is not None:
                    standby = group.create_task(parts.stand_by())
                    await elector.acquire()
                    group.create_task(_hold(elector))
                    standby.cancel()
                    await asyncio.wait({standby})
                await parts.synced()
                for part in parts.lead():
                    group.create_task(part)
        finally:
            await parts.close()

    def _namespaces(self) -> tuple[str | None, ...]:
        return self.options.namespaces or (None,)


async def _hold(elector: Elector) -> None:
    await elector.hold()
    raise LeadershipLost("another process may be leading: ending")


async def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT, or until something fails for good."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        if this is not None:
            this.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with Operator.open(options) as operator:
            await operator.run()
    except asyncio.CancelledError:
        if not asked:
            raise


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return host or "127.0.0.1", int(port)


def _first_cause(error: BaseException) -> BaseException:
    """What really happened, out of the groups that tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Default: as kubectl, or the pod's account.",
)
@click.option("--context", help="Context of the kubeconfig.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Providers, routers, notifiers (YAML)."
)
@click.option("--namespace", "namespaces", multiple=True, help="Only these; all if left out.")
@click.option("--workers", default=16, show_default=True, type=click.IntRange(1, 64))
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="Metrics and probes.")
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="To serve HTTPS (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--lease-namespace", default="phasegate-system", show_default=True)
@click.option("--lease/--no-lease", default=True, show_default=True, help="Elect a leader first.")
@click.option("--identity", default=socket.gethostname, help="Name in the Lease and in events.")
@click.option(
    "--log-format", default="text", show_default=True, type=click.Choice(["text", "json"])
)
@click.option(
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
)
def operator(  # noqa: PLR0913, PLR0917 (one argument an option)
    kubeconfig: Path | None,
    context: str | None,
    config: Path | None,
    namespaces: tuple[str, ...],
    workers: int,
    listen: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    lease_namespace: str,
    lease: bool,
    identity: str,
    log_format: logs.Format,
    log_level: str,
) -> None:
    """Run the operator. Every option is also an environment variable (PHASEGATE_LISTEN and so on)."""
    logs.set_up(log_format, log_level)
    collect_rarely()
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key: give both or neither")
    unique = f"{identity}_{os.getpid()}_{uuid.uuid4().hex[:6]}"
    options = Options(
        access=Access(kubeconfig, context),
        config=load_config(config) if config is not None else OperatorConfig(),
        namespaces=namespaces,
        workers=workers,
        endpoint=Endpoint(*_address(listen), tls_certificate, tls_key),
        lease=LeaseSettings(lease_namespace, "phasegate", unique) if lease else None,
        identity=identity,
    )
    try:
        asyncio.run(serve(options))
    except BaseExceptionGroup as group:
        cause = _first_cause(group)
        if isinstance(cause, LeadershipLost | ConfigError | ClusterError):
            raise click.ClickException(str(cause)) from group
        raise
