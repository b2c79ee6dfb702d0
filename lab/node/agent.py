"""The node: registers itself, binds pods to itself, and runs one worker for each."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from datetime import datetime
from pathlib import Path

from lab.node.client import MERGE_PATCH, STRATEGIC_PATCH, ApiError, Change, Json
from lab.node.host import LOG, Host, now
from lab.node.kubelet import PORT, Kubelet
from lab.node.pods import PodWorker, pod_path
from lab.node.process import kill_marked
from lab.node.status import timestamp

LEASE_S = 40
HEARTBEAT_S = 10.0
MAX_LOG_BYTES = 16 * 1024 * 1024
MAX_PODS = 500


def node_object(name: str, ip: str, moment: datetime) -> Json:
    """Return the Node: its real processors and memory, which the lab does not enforce."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    capacity = {"cpu": str(os.cpu_count()), "memory": f"{memory}Ki", "pods": str(MAX_PODS)}
    stamp = timestamp(moment)
    pressures = ("MemoryPressure", "DiskPressure", "PIDPressure")
    conditions = [_condition(kind, "False", "Sufficient", stamp) for kind in pressures]
    conditions.append(_condition("Ready", "True", "NodeAgentReady", stamp))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": machine,
            },
        },
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            # No host name: the API server would prefer it, and nobody here resolves names.
            "addresses": [{"type": "InternalIP", "address": ip}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "nodeInfo": {
                "architecture": machine,
                "operatingSystem": "linux",
                "osImage": "phasegate lab",
                "kernelVersion": platform.release(),
                "containerRuntimeVersion": "process://1",
                "kubeletVersion": "lab",
                "kubeProxyVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def _condition(kind: str, status: str, reason: str, stamp: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "the lab's node agent is running",
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
    }


def refusal(pod: Json, labels: dict[str, str]) -> str | None:
    """Return why a pod cannot run on this node, None if it can (only nodeSelector counts)."""
    selector: dict[str, str] = pod["spec"].get("nodeSelector") or {}
    wrong = [f"{key}={value}" for key, value in selector.items() if labels.get(key) != value]
    if not wrong:
        return None
    return (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector "
        f"({', '.join(sorted(wrong))})."
    )


class NodeAgent:
    """Feeds the pods' workers from one watch."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._node = node_object(host.name, host.networks.node_ip, now())
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._binding: set[str] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        self._sweep()
        await self._host.networks.prepare()
        kubelet = Kubelet(self._host.directory, self._is_running)
        listening = await kubelet.start(self._host.networks.node_ip)
        try:
            await self._until_done(self._register)
            LOG.info("node %s is registered", self._host.name)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._heartbeat())
                tasks.create_task(self._limit_logs())
                tasks.create_task(self._follow())
        finally:
            await listening.cleanup()

    def _is_running(self, namespace: str, pod: str, container: str) -> bool:
        return any(w.is_running(namespace, pod, container) for w in self._workers.values())

    def _sweep(self) -> None:
        """Remove what a node agent that was killed left running: pods start afresh."""
        killed = kill_marked(self._host.pods_directory)
        if killed:
            LOG.warning("ended %d processes of a former node agent", killed)
        shutil.rmtree(self._host.pods_directory, ignore_errors=True)
        self._host.pods_directory.mkdir(parents=True)

    async def _until_done(self, work: object) -> None:
        assert callable(work)
        while True:
            try:
                await work()
                return
            except ApiError as error:
                LOG.warning("waiting for the API server: %s", error)
                await asyncio.sleep(0.5)

    async def _register(self) -> None:
        path = f"/api/v1/nodes/{self._host.name}"
        try:
            await self._host.api.request("POST", "/api/v1/nodes", self._node)
        except ApiError as error:
            if error.status != 409:
                raise
        # New nodes get a not-ready taint; no scheduler here heeds it, but people read it.
        await self._host.api.request("PATCH", path, {"spec": {"taints": None}}, MERGE_PATCH)
        status: Json = {"status": self._node["status"]}
        await self._host.api.request("PATCH", path + "/status", status, MERGE_PATCH)
        await self._renew()

    async def _renew(self) -> None:
        """Renew the node's lease, by which the control plane knows that it lives."""
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {
            "holderIdentity": self._host.name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        lease: Json = {"metadata": {"name": self._host.name}, "spec": spec}
        try:
            body: Json = {"spec": spec}
            await self._host.api.request("PATCH", f"{path}/{self._host.name}", body, MERGE_PATCH)
        except ApiError as error:
            if error.status != 404:
                raise
            await self._host.api.request("POST", path, lease)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._until_done(self._renew)

    async def _limit_logs(self) -> None:
        """Keep each container's log bounded: the older part moves to <log>.1."""
        while True:
            for path in (self._host.directory / "logs").glob("*/*/*.log"):
                if path.stat().st_size > MAX_LOG_BYTES:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)  # writers append, so they go on at the start
            await asyncio.sleep(HEARTBEAT_S)

    async def _follow(self) -> None:
        async for change in self._host.api.follow("/api/v1/pods"):
            if change.kind == "SYNC":
                self._forget_missing(change)
            for pod in change.objects:
                if change.kind == "DELETED":
                    self._vanish(pod["metadata"]["uid"])
                else:
                    self._see(pod)

    def _forget_missing(self, change: Change) -> None:
        listed = {pod["metadata"]["uid"] for pod in change.objects}
        for uid in self._workers.keys() - listed:
            self._vanish(uid)

    def _vanish(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.vanish()
            if uid not in self._tasks:
                del self._workers[uid]

    def _see(self, pod: Json) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        if uid in self._workers:
            self._workers[uid].update(pod)
        elif node == self._host.name:
            self._start(uid, pod)
        elif not node and uid not in self._binding and not pod["spec"].get("schedulingGates"):
            self._binding.add(uid)
            self._host.later(self._bind(uid, pod))

    def _start(self, uid: str, pod: Json) -> None:
        worker = PodWorker(self._host, pod)
        self._workers[uid] = worker
        task = asyncio.create_task(worker.run())
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        del self._tasks[uid]
        if self._workers[uid].vanished:
            del self._workers[uid]  # else it stays, so that late news starts no second one
        if not task.cancelled() and task.exception() is not None:
            LOG.error("pod %s: %r", uid, task.exception())

    async def _bind(self, uid: str, pod: Json) -> None:
        """Bind a pod to this node; given up when the pod is gone or bound."""
        body: Json = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"], "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._host.name},
        }

        async def attempt() -> None:
            try:
                why = refusal(pod, self._node["metadata"]["labels"])
                if why is None:
                    await self._host.api.request("POST", pod_path(pod) + "/binding", body)
                else:
                    await self._refuse(pod, why)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise

        try:
            await self._until_done(attempt)
        finally:
            self._binding.discard(uid)

    async def _refuse(self, pod: Json, why: str) -> None:
        """Report a pod as unschedulable, once."""
        before = pod.get("status", {}).get("conditions") or ()
        if any(c["type"] == "PodScheduled" and c.get("message") == why for c in before):
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastTransitionTime": timestamp(now()),
        }
        status: Json = {"status": {"conditions": [condition]}}
        path = pod_path(pod) + "/status"
        await self._host.api.request("PATCH", path, status, STRATEGIC_PATCH)
        self._host.event(pod, "Warning", "FailedScheduling", why)


def state_directory(path: Path) -> Path:
    """Return the node's own state directory, made if it is not there."""
    path = path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path
