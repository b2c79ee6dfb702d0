"""Agents come and go for a long time: the operator keeps nothing of those that are gone."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import Lab
from lab.faults import OperatorProcess
from tests.lab.faults.scene import Scene, opened
from tests.lab.main_job.cluster import Api, Refusal, until
from tests.lab.main_job.manifests import CANARY, FULL, agent, container, longer, template

MINUTES = float(os.environ.get("CHURN_MINUTES", "10"))
AGENTS = 6
SETTLED = 0.4
"""Share of the time, at the beginning, in which caches and pools fill: not judged."""
MIB = 2**20
COLLECTING = Path(__file__).with_name("collecting.py")
pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(MINUTES * 60 + 300)]


@dataclass
class Meter:
    """What the process holds, looked at now and then."""

    operator: OperatorProcess
    counted: Path
    """Where the process writes how many objects it has left, when it is asked."""
    memory: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)

    def read(self) -> None:
        with suppress(OSError):
            metric = self.operator.metric
            now = (metric("process_open_fds"), metric("phasegate_tasks"))
            self.memory.append(metric("process_resident_memory_bytes"))
            self.files.append(now[0])
            self.tasks.append(now[1])

    @property
    def objects(self) -> list[float]:
        return [float(line) for line in self.counted.read_text().split()]

    def count(self) -> None:
        """Have it look for garbage: what is left is what it keeps."""
        if self.operator.pid is not None:
            os.kill(self.operator.pid, signal.SIGUSR1)

    def halves(self, values: list[float]) -> tuple[float, float]:
        """Medians of the first and the second half of what is judged."""
        judged = values[int(SETTLED * len(values)) :]
        middle = len(judged) // 2
        return statistics.median(judged[:middle]), statistics.median(judged[middle:])


def lives(api: Api, number: int) -> Iterator[None]:
    """One agent's lives, an act at a time: created, edited, taken back, edited again, deleted."""
    for life in itertools.count():
        name = f"agent-{number}"
        manifest = agent(api.namespace, longer(CANARY), FULL)
        manifest["metadata"]["name"] = name
        manifest["spec"]["traffic"]["gatewayAPI"]["hostnames"] = [f"{name}.{api.namespace}.test"]
        del manifest["spec"]["policyRef"]
        # Every second life is one of pods that never start.
        pods = container(image="example.com/none:1") if life % 2 else container()
        manifest["spec"]["template"] = template(pods)
        api.create("agentdeployments", manifest)
        yield
        for edit in range(2):
            prompt = {"systemPrompt": f"Life {life}, edit {edit}."}
            api.patch("agentdeployments", name, {"spec": {"agent": prompt}})
            yield
            status = api.get("agentdeployments", name).get("status") or {}
            if candidate := status.get("candidateRevision"):
                spec = {"agent": name, "verb": "Rollback", "revision": candidate}
                spec |= {"reason": "churn", "actor": "admin"}
                action = {"metadata": {"generateName": "act-"}, "spec": spec}
                with suppress(Refusal):
                    api.create("rolloutactions", action)
            yield
        api.delete("agentdeployments", name)
        while api.find("agentdeployments", name) is not None:
            yield


@pytest.fixture
def churned(quiet_lab: Lab, quiet_admin: Api, tmp_path: Path) -> Iterator[Scene]:
    program = (sys.executable, str(COLLECTING), str(tmp_path / "objects"))
    (tmp_path / "objects").touch()
    with opened(quiet_lab, quiet_admin, tmp_path, program=program) as scene:
        yield scene


def test_memory_tasks_and_files_stay_what_they_are_while_agents_come_and_go(
    churned: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api, operator = churned.api, churned.operator
    until("it answers", operator.ready)
    meter, acts = Meter(operator, tmp_path / "objects"), 0
    agents = [lives(api, number) for number in range(AGENTS)]
    over = threading.Event()
    threading.Timer(MINUTES * 60, over.set).start()
    while not over.wait(1.0):  # at most so many acts a second: pods come up in between
        for life in agents:
            next(life)
            acts += 1
        meter.read()
        meter.count()
    for item in api.list("agentdeployments"):
        api.delete("agentdeployments", item["metadata"]["name"])
    until("all are gone", lambda: not api.list("agentdeployments"), 120)

    memory, files, tasks = (meter.halves(v) for v in (meter.memory, meter.files, meter.tasks))
    objects = meter.halves(meter.objects)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{acts} acts, {operator.metric('phasegate_reconciles_total'):.0f} passes in "
            f"{MINUTES:g} min; memory {memory[0] / MIB:.1f} → {memory[1] / MIB:.1f} MiB, "
            f"objects {objects[0]:.0f} → {objects[1]:.0f}, "
            f"files {files[0]:.0f} → {files[1]:.0f}, tasks {tasks[0]:.0f} → {tasks[1]:.0f}\n"
        )
    assert objects[1] < 1.03 * objects[0]
    assert memory[1] - memory[0] < 0.1 * memory[0]
    assert files[1] - files[0] <= 8
    assert tasks[1] - tasks[0] <= 8
    assert "Traceback" not in operator.log
    assert operator.metric("phasegate_reconciles_total", result="bug") == 0
    assert operator.metric("phasegate_queue_depth") == 0
