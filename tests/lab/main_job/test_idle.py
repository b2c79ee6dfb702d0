"""When nothing changes, nothing is written."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.lab.main_job.manifests import NAME, agent, policy

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

AGENTS = 5
RENEWALS = 5
"""Renewals of the operator's Lease to look at: one in five seconds."""
_WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")


@pytest.fixture
def stable(fragile: Lab) -> Iterator[Lab]:
    """A lab that nobody else uses meanwhile, with some agents that serve."""
    namespaces = [f"t-{uuid.uuid4().hex[:8]}" for _ in range(AGENTS)]
    for namespace in namespaces:
        fragile.kubectl("create", "namespace", namespace)
        objects = {"apiVersion": "v1", "kind": "List", "items": [policy(), agent(namespace)]}
        fragile.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(objects))
    for namespace in namespaces:
        wait = ("wait", "--for=condition=Ready", f"agentdep/{NAME}", "--timeout=60s")
        fragile.kubectl(*wait, "-n", namespace)
    yield fragile
    fragile.kubectl("delete", "namespace", *namespaces, "--wait=false")


def writes(lab: Lab) -> Counter[str]:
    """Everything that anybody wrote so far, by verb and resource, as the API server counts it."""
    found: Counter[str] = Counter()
    for line in lab.kubectl("get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["verb"] in _WRITES:
                found[f"{labels['verb']} {labels['resource']}"] += int(float(line.split()[-1]))
    return found


def wait_for_renewals(lab: Lab, number: int) -> None:
    """Return when the operator has renewed its Lease so many times from now on."""
    lease = ("lease", "phasegate", "-n", "phasegate-system")
    look = ["kubectl", "get", *lease, "--watch", "-o", 'jsonpath={.spec.renewTime}{"\\n"}']
    with subprocess.Popen(lab.command(look), stdout=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        for _ in range(number + 1):  # the first line is what is there already
            assert watch.stdout.readline()
        watch.kill()


def wait_until_quiet(lab: Lab) -> Counter[str]:
    """Return when what was set up, or left by other tests, is done; what was written until then."""
    before = writes(lab)
    while True:
        wait_for_renewals(lab, 1)
        now = writes(lab)
        if not of_others(now - before):
            return now
        before = now


def of_others(written: Counter[str]) -> dict[str, int]:
    """What was written besides Leases."""
    return {what: count for what, count in written.items() if not what.endswith(" leases")}


def test_agents_at_rest_cost_no_write_but_the_lease(stable: Lab) -> None:
    before = wait_until_quiet(stable)
    wait_for_renewals(stable, RENEWALS)
    written = writes(stable) - before
    assert of_others(written) == {}
    assert written.total() >= RENEWALS  # the counters count
