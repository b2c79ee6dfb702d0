"""A pod's status from what the node knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.node.kubelet import tail_offset
from lab.node.network import AddressPool, NetworkError
from lab.node.probes import ProbeTimes, Tally, port_number
from lab.node.spec import ConfigError, PodFacts
from lab.node.status import (
    BackOff,
    ContainerFacts,
    Running,
    Terminated,
    Waiting,
    phase,
    pod_status,
    restarts_after,
)

T0 = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
T1 = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
FACTS = PodFacts("lab", "10.244.0.1", "10.244.0.7")
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
    "spec": {},
    "status": {},
}

WAITING = ContainerFacts("c", "i:1", Waiting("ContainerCreating"))
RUNNING = replace(WAITING, state=Running(T0), ready=True, started=True, process_id=42)
GOOD = replace(WAITING, state=Terminated(0, "Completed", T0, T1), final=True)
BAD = replace(WAITING, state=Terminated(3, "Error", T0, T1), final=True)
LOOPING = replace(WAITING, state=Waiting("CrashLoopBackOff"), last=Terminated(3, "Error", T0, T1))


@pytest.mark.parametrize(
    ("init", "main", "expected"),
    [
        ([], [WAITING], "Pending"),
        ([], [RUNNING, WAITING], "Running"),
        ([], [LOOPING], "Running"),
        ([], [GOOD, RUNNING], "Running"),
        ([], [GOOD, GOOD], "Succeeded"),
        ([], [GOOD, BAD], "Failed"),
        ([RUNNING], [WAITING], "Pending"),
        ([BAD], [WAITING], "Failed"),
    ],
)
def test_the_phase_follows_the_containers(
    init: list[ContainerFacts], main: list[ContainerFacts], expected: str
) -> None:
    assert phase(init, main) == expected


def _conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in status["conditions"]}


def test_a_running_ready_pod_is_ready_with_its_address() -> None:
    status = pod_status(POD, FACTS, [GOOD], [RUNNING], T0)
    assert status["phase"] == "Running"
    assert status["podIPs"] == [{"ip": "10.244.0.7"}]
    assert {c["status"] for c in status["conditions"]} == {"True"}
    entry = status["containerStatuses"][0]
    assert entry["state"] == {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
    assert entry["containerID"] == "process://42"
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_an_unready_container_is_named() -> None:
    unready = replace(RUNNING, name="slow", ready=False)
    ready = _conditions(pod_status(POD, FACTS, [], [RUNNING, unready], T0))["Ready"]
    assert ready["status"] == "False"
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [slow]"


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    first = pod_status(POD, FACTS, [], [RUNNING], T0)
    later = pod_status({**POD, "status": first}, FACTS, [], [RUNNING], T1)
    assert later == first
    unready = replace(RUNNING, ready=False)
    changed = _conditions(pod_status({**POD, "status": first}, FACTS, [], [unready], T1))
    assert changed["Ready"]["lastTransitionTime"] == "2026-01-01T12:05:00Z"
    assert changed["Initialized"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_an_open_readiness_gate_holds_ready_back() -> None:
    pod = {**POD, "spec": {"readinessGates": [{"conditionType": "example.com/warm"}]}}
    held = _conditions(pod_status(pod, FACTS, [], [RUNNING], T0))
    assert held["ContainersReady"]["status"] == "True"
    assert held["Ready"]["reason"] == "ReadinessGatesNotReady"
    passed = [{"type": "example.com/warm", "status": "True"}]
    status = pod_status({**pod, "status": {"conditions": passed}}, FACTS, [], [RUNNING], T0)
    assert _conditions(status)["Ready"]["status"] == "True"


def test_a_pod_without_network_has_no_address() -> None:
    status = pod_status(POD, None, [], [WAITING], T0)
    assert "podIP" not in status
    assert _conditions(status)["PodReadyToStartContainers"]["status"] == "False"


def test_back_off_doubles_up_to_its_limit_after_one_free_restart() -> None:
    back_off = BackOff(first=1, longest=30)
    assert [back_off.delay(n) for n in range(1, 9)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert back_off.delay(10_000) == 30
    assert back_off.forgets(60)
    assert not back_off.forgets(59)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, again: bool) -> None:
    assert restarts_after(policy, code) is again


def test_a_probe_changes_its_mind_only_at_its_thresholds() -> None:
    times = ProbeTimes.of({"successThreshold": 2, "failureThreshold": 3})
    tally, verdicts = Tally(), []
    for success in (True, True, False, False, True, False, False, False, True, True):
        tally = tally.add(success, times)
        verdicts.append(tally.verdict)
    assert verdicts == [None, True, True, True, True, True, True, False, False, True]


def test_probe_ports_may_be_named() -> None:
    container = {"ports": [{"name": "http", "containerPort": 8080}]}
    assert port_number(container, "http") == 8080
    assert port_number(container, "9") == port_number(container, 9) == 9
    with pytest.raises(ConfigError, match='no port named "grpc"'):
        port_number(container, "grpc")


def test_addresses_are_unique_and_rest_before_they_come_again() -> None:
    pool = AddressPool("10.244.0.0/29")
    taken = [pool.take() for _ in range(4)]
    assert taken == ["10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"]
    pool.give_back("10.244.0.2")
    assert [pool.take(), pool.take()] == ["10.244.0.6", "10.244.0.2"]
    with pytest.raises(NetworkError, match=r"10\.244\.0\.0/29"):
        pool.take()


def test_a_pod_gets_its_former_address_back_if_it_is_free() -> None:
    pool = AddressPool("10.244.0.0/16")
    assert pool.node_ip == "10.244.0.1"
    assert pool.take("10.244.9.9") == "10.244.9.9"
    assert pool.take("10.244.9.9") == "10.244.0.2"
    assert pool.take("192.168.0.1") == "10.244.0.3"
    assert pool.take(pool.node_ip) == "10.244.0.4"


@pytest.mark.parametrize(
    ("lines", "rest"), [(0, b""), (1, b"c\n"), (2, b"b\nc\n"), (9, b"a\nb\nc\n")]
)
def test_the_tail_of_a_log_is_its_last_lines(lines: int, rest: bytes) -> None:
    content = b"a\nb\nc\n"
    assert content[tail_offset(content, lines) :] == rest
    assert tail_offset(b"", lines) == 0
