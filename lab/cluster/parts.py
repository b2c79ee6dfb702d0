"""The set of parts of a running lab, by name, and what a person can do to them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from typing import Any

from lab.cluster import operator
from lab.cluster.identity import PEOPLE, Identity
from lab.cluster.part import Part, Spec
from lab.cluster.prometheus import URL as PROMETHEUS_URL
from lab.cluster.prometheus import configure
from lab.errors import LabError
from lab.node.client import ApiClient, load_kubeconfig
from lab.parts.build import Parts
from lab.paths import State
from lab.sandbox.network import MAIN_ADDRESS

GATEWAY_URL = f"http://{MAIN_ADDRESS}"


class Cluster:
    """What runs in this lab. One event loop, no locks: every change happens between awaits."""

    def __init__(self, state: State, binaries: Parts, without: Sequence[str] = ()) -> None:
        self.state = state
        self.binaries = binaries
        self.without = frozenset(without)
        self.parts: dict[str, Part] = {}
        self.identity: Identity | None = None
        self.ready = asyncio.Event()
        self.broken: asyncio.Future[Part] = asyncio.Future()
        self._one_at_a_time = asyncio.Lock()
        self.ended = asyncio.Event()

    def say(self, line: str) -> None:
        """Tell the person in front of the lab something."""
        print(f"lab {self.state.name}: {line}", flush=True)

    async def start(self, spec: Spec) -> Part:
        """Add a part, wait until it is ready and say how long that took."""
        part = self.parts[spec.name] = Part(spec, self.state, self._died)
        seconds = await part.start()
        self.say(f"{spec.name:<24} ready in {seconds:4.1f} s   {spec.address}")
        return part

    def _died(self, part: Part) -> None:
        if not self.ready.is_set():
            if not self.broken.done():
                self.broken.set_result(part)
            return
        self.say(
            f"{part.spec.name} has ended unexpectedly: it {part.how_it_ended()}\n"
            f"    start it again: lab part start {part.spec.name} --name {self.state.name}"
        )

    def part(self, name: str) -> Part:
        """The part of this name; LabError that lists the names otherwise."""
        if name in self.parts:
            return self.parts[name]
        raise LabError(f"There is no part {name!r} in this lab; there are {', '.join(self.parts)}.")

    def client(self, user: str = "admin") -> ApiClient:
        """A client of the API server, to be used as an async context manager."""
        return ApiClient(load_kubeconfig(self.state.kubeconfig(user)))

    async def act(self, action: str, name: str) -> None:
        """Do to one part what `lab part ACTION PART` says; LabError for an unknown action."""
        part = self.part(name)
        if action in ("stop", "restart"):
            await part.stop()
        elif action == "kill":
            await part.stop(signal.SIGKILL)
        elif action == "pause":
            part.pause()
        elif action == "resume":
            part.resume()
        elif action == "reload":
            part.reload()
        elif action != "start":
            raise LabError(f"There is no action {action!r} for a part.")
        if action in ("start", "restart"):
            await part.start()

    async def start_operator(self, replicas: int, extra: Sequence[str]) -> None:
        """Start `replicas` operators, and the killed ones of them again.

        Raises StartFailed with the last words of one that does not come up.
        """
        if self.identity is None or "kube-apiserver" not in self.parts:
            raise LabError("The control plane is not up yet.")
        await operator.install(self.state)
        async with self.client() as client:
            kubeconfig = await operator.log_in(client, self.identity, self.state)
        self._scrape_operators(replicas)
        for replica in range(replicas):
            spec = operator.operator(self.state, kubeconfig, replica, extra)
            await self._start_again(spec)

    async def _start_again(self, spec: Spec) -> None:
        async with self._one_at_a_time:
            old = self.parts.get(spec.name)
            if old and old.running and old.spec.argv == spec.argv:
                return
            if old:
                await old.stop()
            await self.start(spec)

    def _scrape_operators(self, replicas: int) -> None:
        configure(self.state, [operator.metrics_address(i) for i in range(replicas)])
        if (prometheus := self.parts.get("prometheus")) and prometheus.running:
            prometheus.reload()

    async def stop_operator(self, number: signal.Signals) -> None:
        """Stop all replicas of the operator with this signal."""
        names = [name for name in self.parts if name.split("-")[0] == "operator"]
        await asyncio.gather(*(self.parts[name].stop(number) for name in names))

    def status(self) -> dict[str, Any]:
        """All parts and addresses, for `lab status`."""
        parts = [part.describe() for part in self.parts.values()]
        return {"ready": self.ready.is_set(), "parts": parts, **self.facts()}

    def facts(self) -> dict[str, Any]:
        """Addresses and files of this lab."""
        users = ("admin", *PEOPLE)
        return {
            "name": self.state.name,
            "state_dir": str(self.state.dir),
            "gateway_url": GATEWAY_URL,
            "prometheus_url": PROMETHEUS_URL,
            "kubeconfig": str(self.state.kubeconfig("admin")),
            "forwards": self._forwards(),
            "users": {user: str(self.state.kubeconfig(user)) for user in users},
        }

    def _forwards(self) -> dict[str, str]:
        try:
            forwards: dict[str, str] = json.loads(self.state.forwards.read_text())
        except FileNotFoundError:
            return {}
        return forwards
