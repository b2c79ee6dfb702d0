"""From what the node knows to a pod's status, as a kubelet would report it. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lab.node.client import Json
from lab.node.spec import PodFacts


@dataclass(frozen=True)
class Waiting:
    """A container that is not running yet, or not again yet."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """A container whose process runs."""

    started_at: datetime


@dataclass(frozen=True)
class Terminated:
    """A container whose process ended."""

    exit_code: int
    reason: str
    started_at: datetime
    finished_at: datetime
    message: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerFacts:
    """What a container is doing. ``final``: it will not be started again."""

    name: str
    image: str
    state: State
    last: Terminated | None = None
    ready: bool = False
    started: bool = False
    restarts: int = 0
    process_id: int | None = None
    final: bool = False


def timestamp(moment: datetime) -> str:
    """Write a time as the API has it: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class BackOff:
    """Waiting time before restarts, in seconds: none, then ``first``, doubling up to ``longest``.

    A kubelet has 10 and 300 s; the lab's default is a tenth of that, for it lives in minutes.
    A container that ran for twice the longest wait starts from none again.
    """

    first: float = 1.0
    longest: float = 30.0

    def delay(self, failures: int) -> float:
        """Return the wait after that many quick ends in a row (1 = the first end)."""
        if failures <= 1:
            return 0.0
        return float(min(self.first * 2 ** min(failures - 2, 30), self.longest))

    def forgets(self, ran_s: float) -> bool:
        """Tell whether a container that ran this long has a clean record again."""
        return ran_s >= 2 * self.longest


def restarts_after(policy: str, exit_code: int) -> bool:
    """Tell whether a pod's restartPolicy wants a container back after this exit."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def phase(init: Sequence[ContainerFacts], main: Sequence[ContainerFacts]) -> str:
    """Return a pod's phase: Pending, Running, Succeeded or Failed."""
    if any(c.final and not _succeeded(c) for c in init):
        return "Failed"
    if main and all(c.final for c in main):
        return "Succeeded" if all(_succeeded(c) for c in main) else "Failed"
    begun = [not isinstance(c.state, Waiting) or c.last is not None for c in main]
    return "Running" if any(begun) else "Pending"


def _succeeded(container: ContainerFacts) -> bool:
    return isinstance(container.state, Terminated) and container.state.exit_code == 0


def _state(state: State | None) -> Json:
    if isinstance(state, Waiting):
        return {"waiting": _filled(reason=state.reason, message=state.message)}
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    if isinstance(state, Terminated):
        return {
            "terminated": _filled(
                exitCode=state.exit_code,
                reason=state.reason,
                message=state.message,
                startedAt=timestamp(state.started_at),
                finishedAt=timestamp(state.finished_at),
            )
        }
    return {}


def _filled(**fields: object) -> Json:
    return {name: value for name, value in fields.items() if value not in (None, "")}


def container_status(container: ContainerFacts) -> Json:
    """Return one entry of containerStatuses."""
    status: Json = {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "state": _state(container.state),
        "lastState": _state(container.last),
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
    }
    if container.process_id is not None:
        status["containerID"] = f"process://{container.process_id}"
    return status


def _not_ready(main: Sequence[ContainerFacts], word: str, listed: Sequence[str]) -> Json:
    done = bool(main) and all(c.final for c in main)
    reason = "PodCompleted" if done else "ContainersNotReady"
    return {"reason": reason, "message": f"containers with {word} status: [{' '.join(listed)}]"}


def conditions(
    pod: Json,
    init: Sequence[ContainerFacts],
    main: Sequence[ContainerFacts],
    networked: bool,
    now: datetime,
) -> list[Json]:
    """Return the conditions a kubelet owns; a transition time changes only with the status."""
    incomplete = [c.name for c in init if not _succeeded(c)]
    unready = [c.name for c in main if not c.ready]
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    before = {entry["type"]: entry for entry in pod.get("status", {}).get("conditions") or ()}
    closed = sorted(g for g in gates if before.get(g, {}).get("status") != "True")
    ready = _not_ready(main, "unready", unready) if unready else {}
    gate: Json = {"reason": "ReadinessGatesNotReady", "message": f"gates not passed: {closed}"}
    found: list[tuple[str, bool, Json]] = [
        ("PodReadyToStartContainers", networked, {}),
        ("Initialized", not incomplete, _not_ready((), "incomplete", incomplete)),
        ("ContainersReady", not unready, ready),
        ("Ready", not unready and not closed, ready or gate),
    ]
    return [_condition(before.get(k), k, good, why, now, pod) for k, good, why in found]


def _condition(
    before: Json | None, kind: str, good: bool, why: Json, now: datetime, pod: Json
) -> Json:
    status = "True" if good else "False"
    same = before is not None and before.get("status") == status
    moment = before["lastTransitionTime"] if before is not None and same else timestamp(now)
    words: Json = {"reason": None, "message": None} if good else why
    return {
        "type": kind,
        "status": status,
        "lastTransitionTime": moment,
        "lastProbeTime": None,
        "observedGeneration": pod["metadata"].get("generation", 0),
        **words,
    }


def pod_status(
    pod: Json,
    facts: PodFacts | None,
    init: Sequence[ContainerFacts],
    main: Sequence[ContainerFacts],
    now: datetime,
) -> Json:
    """Return the status to be written (as a strategic merge patch); ``facts`` None: no network."""
    status: Json = {
        "observedGeneration": pod["metadata"].get("generation", 0),
        "phase": phase(init, main),
        "conditions": conditions(pod, init, main, facts is not None, now),
        "startTime": pod.get("status", {}).get("startTime") or timestamp(now),
        "containerStatuses": [container_status(c) for c in main],
    }
    if init:
        status["initContainerStatuses"] = [container_status(c) for c in init]
    if facts is not None:
        status |= {
            "hostIP": facts.host_ip,
            "hostIPs": [{"ip": facts.host_ip}],
            "podIP": facts.pod_ip,
            "podIPs": [{"ip": facts.pod_ip}],
        }
    return status
