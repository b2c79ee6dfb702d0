"""What 1,000 rollouts with 7 metrics cost the sampler and the engine: `python -m bench.fleet_sampler`.

The provider's part is played by prepared answers, byte for byte what Prometheus sends; what is
measured is this process: reading and decoding them, dealing them out, evidence and verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
from phasegate.adapters.garbage import collect_rarely
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.base import Meta
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.ports import Key
from phasegate.control.queue import WorkQueue
from phasegate.control.sampler import OVERLAP, Sampler
from phasegate.rollout.observed import Capabilities, Observed, PolicySeen, RouteSeen
from phasegate.rollout.reasons import Reason

from bench.machine import describe

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = 5.0
NEW, OLD = "aaaaaaaaaa", "bbbbbbbbbb"
EDGES = (
    *("0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "2.0", "2.5", "3.0", "3.7", "4.6", "5.0"),
    *("6.2", "7.7", "10.0", "15.0", "25.6", "51.2", "102.4", "204.8", "409.6", "+Inf"),
)
POLICY = {
    "metrics": [
        {"name": "error-rate", "gate": {"below": "5%"}, "rollback": {"above": "5%"}, "baseline": {}},
        {"name": "escalation-rate", "rollback": {"above": "50%"}},
        {"name": "latency-p95", "rollback": {"above": "3s"}, "baseline": {}},
        {"name": "cost-per-call", "baseline": {}},
        {"name": "tokens-per-call", "baseline": {}},
        {"name": "accuracy", "rollback": {"below": "85%"}},
        {"name": "safety-flags", "rollback": {"above": "0"}},
    ]
}  # fmt: skip
SPEC = {
    "agent": {},
    "template": {"spec": {"containers": [{"name": "agent", "image": "agent"}]}},
    "service": {"port": 8080},
    "traffic": {"gatewayAPI": {"parentRefs": [{"name": "gateway"}]}},
}
STATUS = {
    "currentRollout": "r-1",
    "candidateRevision": NEW,
    "stableRevision": OLD,
    "progress": {
        "phase": {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "24h"},
        "enteredAt": START,
        "startedAt": START,
    },
}


@dataclass
class Clock:
    """Time that moves tick by tick."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """Wall clock."""
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """The same."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""
        raise NotImplementedError


@dataclass
class Pod:
    """One pod's counters and their last samples, as JSON."""

    series: list[tuple[str, list[str]]]
    """Labels, and the samples of the overlap."""
    values: list[float]


@dataclass
class Fleet:
    """Agents that are called, and the answers of a Prometheus that scrapes them every tick."""

    agents: int
    calls: float
    """Calls of each agent's candidate per tick."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    queries: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        """Three pods for each agent: one of the candidate's."""
        for number in range(self.agents):
            name = f"agent-{number}"
            self.pods[name] = [_pod(name, NEW, 0), _pod(name, OLD, 0), _pod(name, OLD, 1)]

    def scrape(self, at: float) -> None:
        """One scrape of everything."""
        kept = int(OVERLAP / TICK) + 1
        for pods in self.pods.values():
            for pod in pods:
                self._count(pod)
                for (_, samples), value in zip(pod.series, pod.values, strict=True):
                    samples.append(f'[{at:.3f},"{value:g}"]')
                    del samples[:-kept]

    def _count(self, pod: Pod) -> None:
        calls = int(self.calls + self.chance.random())
        values, slow = pod.values, len(EDGES)
        for _ in range(calls):
            values[2 if self.chance.random() < 0.02 else 0] += 1
            edge = self.chance.randrange(4, 12)
            for index in range(edge, slow):
                values[3 + index] += 1
            values[3 + slow] += 900
            values[4 + slow] += 150
            values[5 + slow] += 0.02
            if self.chance.random() < 0.1:
                values[6 + slow] += 1
                values[7 + slow] += 1

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What Prometheus would say."""
        form = parse_qs(request.content.decode())
        self.queries += 1
        found: list[str] = []
        if request.url.path.endswith("/query"):
            named = re.search(r'agent=~"([^"]*)"', form["query"][0])
            for name in named[1].split("|") if named else ():
                for pod in self.pods[name]:
                    found += (
                        f'{{"metric":{labels},"values":[{",".join(samples)}]}}'
                        for labels, samples in pod.series
                        if samples
                    )
        body = (
            f'{{"status":"success","data":{{"resultType":"matrix","result":[{",".join(found)}]}}}}'
        )
        self.sent += len(body)
        return httpx.Response(200, content=body.encode())


def _pod(agent: str, revision: str, number: int) -> Pod:
    where = {
        "namespace": "team",
        "agent": agent,
        "revision": revision,
        "mode": "live",
        "job": "phasegate-agents",
        "instance": "10.1.2.3:8080",
        "pod": f"{agent}-{revision}-{number}",
    }
    names: list[dict[str, str]] = [
        {"__name__": "agent_requests_total", "outcome": outcome, "model": "m"}
        for outcome in ("success", "escalated", "error")
    ]
    bucket = "agent_request_duration_seconds_bucket"
    names += [{"__name__": bucket, "le": edge} for edge in EDGES]
    names += [
        {"__name__": "agent_tokens_total", "type": "input", "model": "m"},
        {"__name__": "agent_tokens_total", "type": "output", "model": "m"},
        {"__name__": "agent_cost_usd_total", "model": "m"},
        {"__name__": "agent_eval_total"},
        {"__name__": "agent_eval_passed_total"},
        {"__name__": "agent_safety_flags_total", "category": "tone"},
    ]
    series = [(json.dumps(name | where, sort_keys=True), list[str]()) for name in names]
    return Pod(series, [0.0] * len(series))


def _observed(key: Key) -> tuple[Observed, AgentDeploymentStatus]:
    status = AgentDeploymentStatus.model_validate(STATUS)
    seen = Observed(
        meta=Meta(key.name, key.namespace, "uid", 1, "1", START),
        spec=AgentDeploymentSpec.model_validate(SPEC),
        spec_problem=None,
        spec_reason=Reason.INVALID_SPEC,
        status=status,
        target=None,
        revisions={},
        stable_service=None,
        policy=PolicySeen(RollbackPolicySpec.model_validate(POLICY)),
        workloads=(),
        route=RouteSeen(None, programmed=False, message="", capabilities=Capabilities()),
        rollout=None,
    )
    return seen, status


def _memory() -> float:
    """Largest resident size of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0)


class Served(httpx.AsyncBaseTransport):
    """Answers prepared outside of what is measured."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.preparing = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer; its making is the provider's cost."""
        began = time.process_time()
        await request.aread()
        answer = self._fleet.answer(request)
        self.preparing += time.process_time() - began
        return answer


async def measure(agents: int, ticks: int, calls: float) -> Iterator[tuple[str, Any]]:
    """Rows of the table: name and value."""
    clock, fleet = Clock(), Fleet(agents, calls)
    transport = Served(fleet)
    store = EvidenceStore(clock)
    queue: WorkQueue[Key] = WorkQueue(clock, lambda: 0.0)
    async with httpx.AsyncClient(transport=transport) as client:
        provider = PrometheusProvider(
            "default", client, url="http://prometheus", clock=lambda: clock.now().timestamp()
        )
        sampler = Sampler({"default": provider}, store, queue, clock, tick=TICK)
        for number in range(agents):
            key = Key("team", f"agent-{number}")
            store.track(key, *_observed(key))
        for attempt in store.attempts():
            attempt.read_until = clock.now().timestamp()
            attempt.history_due = False
        used: list[float] = []
        for _ in range(ticks):
            clock.seconds += TICK
            fleet.scrape(clock.now().timestamp() - 0.5)
            fleet.queries = fleet.sent = 0
            transport.preparing = 0.0
            began = time.process_time()
            await sampler.look()
            used.append(time.process_time() - began - transport.preparing)
    steady = sorted(used[len(used) // 3 :])
    middle = steady[len(steady) // 2]
    sizes = [
        len(json.dumps(a.evidence.dump(), separators=(",", ":"))) for a in store.attempts()[:20]
    ]
    judged = store.attempts()[0].judgement
    return iter(
        [
            ("rollouts in progress", agents),
            ("series of each", sum(len(p.series) for p in fleet.pods["agent-0"])),
            ("checks of each", len(judged.checks) if judged is not None else 0),
            ("queries a second", fleet.queries / TICK),
            ("MB a look", round(fleet.sent / 1e6, 1)),
            ("CPU seconds a look, median", round(middle, 3)),
            ("CPU seconds a look, first", round(used[0], 3)),
            ("cores at 5 s ticks", round(middle / TICK, 3)),
            ("ms of CPU a rollout and look", round(1000 * middle / agents, 3)),
            ("KB of state a rollout, largest", round(max(sizes) / 1000, 1)),
            ("MB of memory, with the fleet played", _memory()),
        ]
    )


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=12)
    parser.add_argument("--calls", type=float, default=2.0, help="of a pod, each tick")
    options = parser.parse_args()
    collect_rarely()
    for name, value in describe().items():
        print(f"{name:40} {value}")
    for name, value in asyncio.run(measure(options.agents, options.ticks, options.calls)):
        print(f"{name:40} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
