"""``phasegate operator``: puts the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from phasegate.adapters import logs
from phasegate.adapters.access import Access
from phasegate.adapters.clock import SystemClock
from phasegate.adapters.config import OperatorConfig, load_config
from phasegate.adapters.edge import Edge, References
from phasegate.adapters.garbage import collect_rarely
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.adapters.recorder import EventRecorder
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.telemetry import StatusServer, Telemetry
from phasegate.api.errors import ClusterError, ConfigError, NotFound
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.execute import Executor
from phasegate.control.foretelling import Foreteller
from phasegate.control.lease import Elector, LeaseSettings
from phasegate.control.observe import Observer
from phasegate.control.ports import Key
from phasegate.control.prices import PriceBook
from phasegate.control.queue import WorkQueue
from phasegate.control.reconcile import Reconciler
from phasegate.control.resync import list_keys, resync
from phasegate.control.sampler import Sampler
from phasegate.rollout.observed import Settings

URGENT_CONNECTIONS: Final = 4
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
    host: str
    port: int
    lease: LeaseSettings | None
    identity: str


@dataclass
class Operator:
    """All parts of one process, and what they share."""

    options: Options
    cluster: KubernetesCluster
    urgent: KubernetesCluster
    telemetry: Telemetry
    clock: SystemClock = field(default_factory=SystemClock)
    trouble: str | None = None
    """Why this process should be restarted."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, options: Options) -> Any:
        """Connect; closes the connections at the end."""
        telemetry = Telemetry()
        cluster = await KubernetesCluster.connect(options.access, on_call=telemetry.called)
        urgent = await KubernetesCluster.connect(
            options.access, connections=URGENT_CONNECTIONS, on_call=telemetry.called
        )
        try:
            yield cls(options, cluster, urgent, telemetry)
        finally:
            await cluster.close()
            await urgent.close()

    async def run(self) -> None:
        """Serve the probes, become the leader, act until that ends."""
        lease = self.options.lease
        elector = Elector(self.urgent, self.clock, lease) if lease is not None else None
        if elector is not None:
            self.telemetry.watch_leadership(lambda: elector.leading)
        server = StatusServer(
            self.telemetry, healthy=lambda: self.trouble, ready=lambda: self.trouble
        )
        try:
            await server.start(self.options.host, self.options.port)
        except OSError as error:
            where = f"{self.options.host}:{self.options.port}"
            raise ConfigError(f"cannot listen on {where}: {error.strerror}") from error
        try:
            await self._installed()
            if elector is not None:
                await elector.acquire()
            await self._lead(elector)
        finally:
            if elector is not None:
                await elector.release()
            await server.stop()

    async def _installed(self) -> None:
        """Wait for the API server; kopf would not notice that the kinds are missing."""
        while True:
            try:
                await list_keys(self.cluster, self._namespaces())
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

    def _prices(self) -> PriceBook | None:
        where = self.options.config.prices
        if where is None:
            return None
        return PriceBook(self.cluster, self.clock, where.namespace, where.name, where.key)

    async def _lead(self, elector: Elector | None) -> None:
        """Everything a leader does, until one part ends."""
        config, telemetry = self.options.config, self.telemetry
        queue = WorkQueue[Key](self.clock, random.random)
        telemetry.watch_queue(lambda: len(queue))
        evidence = EvidenceStore(self.clock)
        references = References()
        router = GatewayApiRouter(self.cluster, urgent=self.urgent, configured=config.features())
        recorder = EventRecorder(
            self.cluster,
            self.options.identity,
            on_announced=telemetry.announced,
            on_dropped=telemetry.event_dropped,
        )
        refresh = config.refresh.rollout
        providers = {
            name: PrometheusProvider.connect(name, provider)
            for name, provider in config.providers.items()
        }
        foreteller = Foreteller(providers, queue, self.clock)
        observer = Observer(
            self.cluster, router, self.clock, references, self._prices(), foreteller
        )
        executor = Executor(
            self.cluster,
            router,
            recorder,
            self.clock,
            refresh=refresh.total_seconds(),
            on_taken_back=telemetry.safe,
        )
        reconciler = Reconciler(
            observer,
            executor,
            evidence,
            queue,
            self.clock,
            Settings(refresh=refresh),
            telemetry.reconciled,
        )
        sampler = Sampler(
            providers,
            evidence,
            queue,
            self.clock,
            tick=config.refresh.tick.total_seconds(),
            on_error=telemetry.provider_failed,
        )

        async def everything() -> None:
            for key in await list_keys(self.cluster, self._namespaces()):
                queue.add(key)

        relists = _Latest(everything)
        edge = Edge(
            self.options.access,
            references,
            queue.add,
            relists.start,
            namespaces=self.options.namespaces,
        )
        parts: list[Coroutine[Any, Any, None]] = [
            edge.run(),
            queue.run(),
            sampler.run(),
            foreteller.run(),
            recorder.run(),
            resync(
                self.cluster,
                queue,
                self.clock,
                reconciler.known,
                random.random,
                self._namespaces(),
            ),
            reconciler.work(urgent_only=True),
            *(reconciler.work() for _ in range(self.options.workers)),
        ]
        if elector is not None:
            parts.append(_hold(elector))
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        finally:
            relists.cancel()
            for provider in providers.values():
                await provider.close()

    def _namespaces(self) -> tuple[str | None, ...]:
        return self.options.namespaces or (None,)


class _Latest:
    """Runs a coroutine function in the background, one run at a time; a failure waits for resync."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._quietly())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _quietly(self) -> None:
        with contextlib.suppress(ClusterError):
            await self._work()


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
@click.option("--config", type=click.Path(path_type=Path), help="Providers and routers (YAML).")
@click.option("--namespace", "namespaces", multiple=True, help="Only these; all if left out.")
@click.option("--workers", default=8, show_default=True, type=click.IntRange(1, 64))
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="Metrics and probes.")
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
    lease_namespace: str,
    lease: bool,
    identity: str,
    log_format: logs.Format,
    log_level: str,
) -> None:
    """Run the operator. Every option is also an environment variable (PHASEGATE_LISTEN and so on)."""
    logs.set_up(log_format, log_level)
    collect_rarely()
    host, port = _address(listen)
    unique = f"{identity}_{os.getpid()}_{uuid.uuid4().hex[:6]}"
    options = Options(
        access=Access(kubeconfig, context),
        config=load_config(config) if config is not None else OperatorConfig(),
        namespaces=namespaces,
        workers=workers,
        host=host,
        port=port,
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
