"""Two replicas of the operator: one works, the other takes over and finishes what was begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from lab import Lab
from tests.lab.history import History, Json
from tests.lab.outcome import (
    advanced,
    assert_never_above_its_step,
    assert_records_only_grow,
    gates,
)
from tests.lab.story import GOOD, STEPS, Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/phasegate-system/leases"


@pytest.fixture
def pair(fragile: Lab) -> Iterator[Lab]:
    """The lab with two replicas; one again afterwards."""
    fragile.start_operator(replicas=2)
    yield fragile
    fragile.stop_operator()
    fragile.start_operator()


def holders(leases: History) -> list[tuple[str, Json]]:
    """Every version of the Lease: the part of the lab that holds it ("": nobody), and the rest."""
    specs = [version["spec"] for version in leases.of_kind("Lease")]
    return [(spec.get("holderIdentity", "").partition("_")[0], spec) for spec in specs]


def leader(leases: History, after: str = "") -> str:
    """Who leads; "" as long as nobody does but `after`."""
    held = holders(leases)
    now = held[-1][0] if held else ""
    return now if now != after else ""


def gap(leases: History) -> float:
    """Seconds between the last sign of life of the leader before this one, and this one's begin."""
    held = holders(leases)
    acquired = held[-1][1]["acquireTime"]
    sign = [spec["renewTime"] for _, spec in held if spec.get("acquireTime") != acquired][-1]
    return (datetime.fromisoformat(acquired) - datetime.fromisoformat(sign)).total_seconds()


def test_the_other_replica_takes_over_and_finishes(
    pair: Lab, record_testsuite_property: Callable[[str, object], None]
) -> None:
    with History.of(pair, LEASES) as leases, Story.begin(pair) as story:
        first = leases.until("a leader", lambda: leader(leases))
        patience = holders(leases)[-1][1]["leaseDurationSeconds"]
        story.change(GOOD)
        story.history.until("users meet it", lambda: story.status.get("weight") == 20)
        pair.part("kill", first)
        second = leases.until("the other", lambda: leader(leases, after=first), 2 * patience)
        crash = gap(leases)
        story.history.until("the new one is stable", lambda: story.settled("Stable"))

        pair.part("start", first)
        pair.part("stop", second)  # SIGTERM
        assert leases.until("the first again", lambda: leader(leases, after=second)) == first
        polite = gap(leases)
        assert polite < patience, "it waited for the lease's end although that was given back"

        (attempt,) = story.objects("agr")
        assert attempt["status"]["phase"] == "Succeeded"
        assert gates(attempt) == [*advanced(len(STEPS)), ("Stable", STEPS[-1], "stable")]
        assert_never_above_its_step(story.history)
        assert_records_only_grow(story.history)
    record_testsuite_property("seconds from the leader's death to the next leader", crash)
    record_testsuite_property("seconds from the leader's end to the next leader", polite)
