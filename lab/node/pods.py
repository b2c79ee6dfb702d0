"""One pod from the moment it is bound to the node until it is gone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from typing import Any

from lab.node.client import STRATEGIC_PATCH, ApiError, Json
from lab.node.container import Container, PodContext
from lab.node.host import LOG, Host, now
from lab.node.network import NetworkError, PodNetwork
from lab.node.process import kill_marked
from lab.node.spec import PodFacts
from lab.node.status import ContainerFacts, Terminated, Waiting, pod_status

RETRY_S = 1.0
FINISHED = ("Succeeded", "Failed")


def pod_path(pod: Json) -> str:
    """Return a pod's path in the API."""
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


class PodWorker:
    """Runs one pod; fed by ``update`` and ``vanish``, done when ``run`` returns."""

    def __init__(self, host: Host, pod: Json) -> None:
        self._host = host
        self._pod = pod
        self._directory = host.pods_directory / pod["metadata"]["uid"]
        self._network: PodNetwork | None = None
        self._deleted = asyncio.Event()
        self._vanished = asyncio.Event()
        self._dirty = asyncio.Event()
        self._written: Json | None = None
        spec = pod["spec"]
        self._init = [self._container(c) for c in spec.get("initContainers") or ()]
        self._main = [self._container(c) for c in spec["containers"]]
        self._finished = pod.get("status", {}).get("phase") in FINISHED
        self.update(pod)

    def _container(self, spec: Json) -> Container:
        """Make a container; one that ran before the node agent was restarted counts that."""
        status = self._pod.get("status", {})
        entries = [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
        ]
        before: Json = next((e for e in entries if e["name"] == spec["name"]), {})
        ran = "containerID" in before
        waits = self._pod["spec"].get("initContainers")
        reason = "PodInitializing" if waits else "ContainerCreating"
        return Container(spec, reason, before.get("restartCount", 0) + ran, self._dirty.set)

    def update(self, pod: Json) -> None:
        """Take note of the pod's newest state."""
        self._pod = pod
        if pod["spec"].get("readinessGates"):
            self._dirty.set()  # somebody else decides, too, whether it is ready
        if "deletionTimestamp" in pod["metadata"]:
            self._deleted.set()

    def is_running(self, namespace: str, pod: str, container: str) -> bool:
        """Tell whether this is the worker of that pod, and the container has not ended for good."""
        metadata = self._pod["metadata"]
        if self.vanished or (metadata["namespace"], metadata["name"]) != (namespace, pod):
            return False
        mine = (*self._init, *self._main)
        return any(c.facts.name == container and not c.facts.final for c in mine)

    @property
    def vanished(self) -> bool:
        """Whether the API server has the pod no more."""
        return self._vanished.is_set()

    def vanish(self) -> None:
        """Take note that the API server has the pod no more."""
        self._vanished.set()
        self._deleted.set()

    async def run(self) -> None:
        """Run the pod until it is deleted; at the end nothing of it is left."""
        living = asyncio.create_task(self._retrying(self._live()))
        writing = asyncio.create_task(self._retrying(self._write_changes()))
        try:
            await self._deleted.wait()
            if not self._vanished.is_set():
                await self._stop(living)
        finally:
            living.cancel()
            writing.cancel()
            await asyncio.gather(living, writing, return_exceptions=True)
            await self._clean_up()
        await self._finish()

    async def _retrying(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # one pod's problem must not become the node's
            LOG.exception("pod %s", self._pod["metadata"]["name"])

    async def _live(self) -> None:
        if self._finished:
            return
        context = await self._set_up()
        self._dirty.set()
        policy = self._pod["spec"].get("restartPolicy", "Always")
        for container in self._init:
            await container.run(context, "OnFailure" if policy == "Always" else policy)
            state = container.facts.state
            if not (isinstance(state, Terminated) and state.exit_code == 0):
                return
        await asyncio.gather(*(c.run(context, policy) for c in self._main))

    async def _set_up(self) -> PodContext:
        host, spec = self._host, self._pod["spec"]
        self._directory.mkdir(parents=True, exist_ok=True)
        while not spec.get("hostNetwork") and self._network is None:
            try:
                before = self._pod.get("status", {}).get("podIP")
                self._network = await host.networks.attach(before)
            except NetworkError as error:
                host.event(self._pod, "Warning", "FailedCreatePodSandBox", str(error))
                for container in self._main:
                    container.set(state=Waiting("ContainerCreating", str(error)))
                await asyncio.sleep(RETRY_S)
        netns = None if self._network is None else self._network.netns
        return PodContext(host, self._pod, self._facts(), netns, self._directory)

    def _facts(self) -> PodFacts:
        node_ip = self._host.networks.node_ip
        ip = node_ip if self._network is None else self._network.ip
        return PodFacts(self._host.name, node_ip, ip)

    async def _write_changes(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if not await self._write_status():
                await asyncio.sleep(RETRY_S)
                self._dirty.set()

    async def _write_status(self) -> bool:
        """Write the status if it changed; returns False if that should be tried again."""
        init: list[ContainerFacts] = [c.facts for c in self._init]
        main: list[ContainerFacts] = [c.facts for c in self._main]
        ready = self._network is not None or self._pod["spec"].get("hostNetwork")
        facts = self._facts() if ready else None
        status = pod_status(self._pod, facts, init, main, now())
        if status == self._written or self._finished:
            return True
        try:
            path = pod_path(self._pod) + "/status"
            body: Json = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
            answer = await self._host.api.request("PATCH", path, body, STRATEGIC_PATCH)
        except ApiError as error:
            if error.status in (404, 409):
                return True  # the pod is gone, or another one has its name
            LOG.warning("status of pod %s: %s", self._pod["metadata"]["name"], error)
            return False
        self._written = status
        self.update(answer)
        return True

    async def _stop(self, living: asyncio.Task[None]) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()

        def remaining() -> float:
            if self._vanished.is_set():
                return 0.0
            grace = self._pod["metadata"].get("deletionGracePeriodSeconds") or 0
            return float(begun + grace - clock())

        names = ", ".join(c.facts.name for c in self._main)
        self._host.event(self._pod, "Normal", "Killing", f"Stopping container {names}")
        await asyncio.gather(*(c.stop(remaining) for c in (*self._init, *self._main)))
        if self._network is None:
            return  # it never got as far as running anything
        await asyncio.wait({living}, timeout=RETRY_S)

    async def _clean_up(self) -> None:
        kill_marked(self._directory)
        if self._network is not None:
            network, self._network = self._network, None
            await self._host.networks.detach(network)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _finish(self) -> None:
        """Tell the API server that the pod has ended, so that it goes."""
        uid = self._pod["metadata"]["uid"]
        body: Json = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        while not self._vanished.is_set():
            try:
                await self._write_status()
                await self._host.api.request("DELETE", pod_path(self._pod), body)
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                await asyncio.sleep(RETRY_S)
