"""A real operator process on the host, outside the lab's network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from lab import Lab
from lab.cluster.operator import ACCOUNT, NAMESPACE
from lab.errors import StartFailed

_POLL_S = 0.02
_START_S = 40.0
_END_S = 20.0


class OperatorProcess:
    """Use as a context manager: it runs from the start of the block, and is killed at its end.

    `with` returns once it answers on its metrics port, which is before it leads.
    """

    def __init__(  # noqa: PLR0913 (one argument a setting)
        self,
        lab: Lab,
        folder: Path,
        *,
        kubeconfig: Path,
        namespaces: Sequence[str] = (),
        lease: str | None = None,
        identity: str = "operator",
        config: Mapping[str, Any] | None = None,
        extra: Sequence[str] = (),
        program: Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        """What it is started with, each time.

        Args:
            lab: its Prometheus is the provider `default`.
            folder: for its log and its configuration, whose names begin with `identity`.
            kubeconfig: how it reaches the API server, such as `FaultProxy.kubeconfig`.
            namespaces: to which it is restricted; all if empty.
            lease: namespace of the Lease `phasegate` that it must hold to act; None: it needs none.
            identity: what it calls itself.
            config: its configuration, laid over the usual one (provider, a `refresh` of 2 s).
            extra: more of its command line.
            program: what to run in the place of `phasegate`, such as Python and a script.
            host: where it listens: 0.0.0.0 makes it ask who reads its metrics.
        """
        self._lab, self._identity, self._lease = lab, identity, lease
        self._port = _free_port()
        self._log = folder / f"{identity}.log"
        self._log.touch()
        written = folder / f"{identity}-config.yaml"
        usual = {
            "providers": {"default": {"url": lab.prometheus_url}},
            "refresh": {"rollout": "2s"},
        }
        written.write_text(yaml.safe_dump({**usual, **(config or {})}))
        self._argv = [
            *(program or (_phasegate(),)),
            "operator",
            f"--kubeconfig={kubeconfig}",
            f"--config={written}",
            f"--listen={host}:{self._port}",
            f"--identity={identity}",
            *(f"--namespace={name}" for name in namespaces),
            *((f"--lease-namespace={lease}",) if lease else ("--no-lease",)),
            *extra,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._lease is not None and self._lease != NAMESPACE:
            allow_lease(self._lab, self._lease)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """All it has printed, over all its starts."""
        return self._log.read_text(errors="replace")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the last end; negative: the signal. None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self, *, wait: bool = True) -> None:
        """Start it (again); with `wait` until it answers. StartFailed with its last words."""
        if self.running:
            return
        # Settings of the caller's own environment must not be taken for this operator's.
        own = ("PHASEGATE_", "KUBECONFIG")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        if wait:
            self._until("answers", lambda: self._probe("/healthz") is not None)

    def kill(self) -> None:
        """SIGKILL, and wait for its end; also ends a stopped one. No harm if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)

    def terminate(self) -> float:
        """SIGTERM, and wait for its end; the seconds that took."""
        began = time.monotonic()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_END_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """SIGSTOP: it is frozen, its connections stay open."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: it goes on where it was."""
        self._signal(signal.SIGCONT)

    def wait(self, seconds: float) -> int | None:
        """Its exit code if it ends by itself within so many seconds, else None."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def ready(self) -> bool:
        """Whether /readyz says 200."""
        return self._probe("/readyz") == 200

    def metrics(self) -> list[Metric]:
        """What /metrics says, parsed. OSError if nobody answers."""
        url = f"http://127.0.0.1:{self._port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name (`…_total`, `…_count`) with these labels."""
        return sum(
            sample.value
            for family in self.metrics()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def leading(self) -> bool:
        """Whether it says that it holds the lease; False if it does not answer."""
        with suppress(OSError):
            return self.metric("phasegate_leader") == 1
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _probe(self, path: str) -> int | None:
        """The HTTP status; None if nobody answers."""
        url = f"http://127.0.0.1:{self._port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def _until(self, what: str, check: Callable[[], bool]) -> None:
        pause = threading.Event()
        deadline = time.monotonic() + _START_S
        while not check():
            words = "\n".join(self.log.splitlines()[-12:])
            if not self.running:
                raise StartFailed(f"{self._identity} exited with {self.exit_code}:\n{words}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{self._identity}: not within {_START_S:.0f} s: {what}\n{words}")
            pause.wait(_POLL_S)


def allow_lease(lab: Lab, namespace: str) -> None:
    """Let the operator have its lease in this namespace, as config/rbac does in its own."""
    rules = ("--verb=create,get,patch", "--resource=leases.coordination.k8s.io")
    lab.kubectl("create", "role", "phasegate-leader", *rules, "-n", namespace)
    account = f"--serviceaccount={NAMESPACE}:{ACCOUNT}"
    bound = ("rolebinding", "phasegate-leader", "--role=phasegate-leader", account)
    lab.kubectl("create", *bound, "-n", namespace)


def _phasegate() -> str:
    program = shutil.which("phasegate", path=str(Path(sys.executable).parent))
    if program is None:
        raise StartFailed("The operator is not installed in this Python environment: make setup")
    return program


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
