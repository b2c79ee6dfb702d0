"""Two operators, one Lease: whatever happens to the leader, one acts at a time, and soon again one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from lab import Lab
from lab.faults import Cut, FaultProxy, Match, OperatorProcess, Seen
from tests.lab.faults.scene import a_namespace
from tests.lab.main_job.cluster import Api, until
from tests.lab.main_job.manifests import DARK, FULL, NAME, longer
from tests.lab.main_job.story import Story, seconds

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

LEASE = 15.0
"""Seconds after which a silent leader is followed (`LeaseSettings.duration`)."""
RENEWAL = 10.0
"""Seconds after its last renewal in which a leader stops acting by itself."""
TAKE_OVER = LEASE + 5.0
BUSY = 5.0
"""Seconds of patience with a machine that is busy with other tests."""

# The operator with a wall clock that is wrong: the same program, started by another script.
_WRONG_CLOCK = """
import datetime, sys, time
off = float(sys.argv.pop(1))
real_time, real = time.time, datetime.datetime
time.time = lambda: real_time() + off
class Wrong(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=off)
datetime.datetime = Wrong
from phasegate.cli.main import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Pair:
    """Two operators for one namespace, each with a way to the API server of its own."""

    story: Story
    one: OperatorProcess
    two: OperatorProcess
    ways: dict[OperatorProcess, FaultProxy]

    @property
    def holder(self) -> str:
        lease = self.story.api.http.get(
            f"/apis/coordination.k8s.io/v1/namespaces/{self.story.api.namespace}/leases/phasegate"
        )
        return str(lease.json()["spec"].get("holderIdentity", ""))

    def leads(self, operator: OperatorProcess, patience: float = 20.0) -> float:
        """Wait until it leads; when that was, in seconds since the epoch."""
        until("it leads", operator.leading, patience)
        return now()

    def writes(self, operator: OperatorProcess) -> list[Seen]:
        """What it changed; its lease does not count."""
        return [seen for seen in self.ways[operator].writes if seen.plural != "leases"]

    def acts(self, operator: OperatorProcess, patience: float = 20.0) -> None:
        """Ask for something and wait until this one does it."""
        before = len(self.writes(operator))
        generation = self.story.change(replicas=1 + self.story.api.get(*AGENT)["spec"]["replicas"])
        until(
            "it acts on a change",
            lambda: (
                len(self.writes(operator)) > before
                and self.story.api.get(*AGENT)["status"]["observedGeneration"] == generation
            ),
            patience,
        )


AGENT = ("agentdeployments", NAME)


def now() -> float:
    return time.time()  # noqa: TID251 (what a person's watch says)


@contextmanager
def pair(
    lab: Lab, admin: Api, folder: Path, *, clock: Callable[[str], list[str]] = lambda name: []
) -> Iterator[Pair]:
    """`one` leads, `two` stands by, and an agent serves; `clock` gives each its `program`."""
    with a_namespace(lab) as namespace, ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            own = folder / name
            own.mkdir()
            way = stack.enter_context(FaultProxy(lab, own))
            operator = OperatorProcess(
                lab,
                own,
                kubeconfig=way.kubeconfig,
                namespaces=[namespace],
                identity=name,
                lease=namespace,
                program=clock(name),
            )
            made.append((operator, way))
        (one, way_one), (two, way_two) = made
        story = stack.enter_context(Story.begin(lab, admin.within(namespace), folder))
        both = Pair(story, one, two, {one: way_one, two: way_two})
        stack.enter_context(one)
        both.leads(one)
        two.start()
        stack.callback(two.kill)
        story.stable(longer(DARK), FULL, replicas=1)
        yield both


@pytest.fixture
def two(quiet_lab: Lab, quiet_admin: Api, tmp_path: Path) -> Iterator[Pair]:
    with pair(quiet_lab, quiet_admin, tmp_path) as both:
        yield both


def last_renewal(both: Pair, operator: OperatorProcess) -> float:
    """When this leader's last renewal was answered."""
    return max(
        seen.at for seen in both.ways[operator].writes if seen.plural == "leases" and seen.status
    )


@pytest.mark.soak
def test_a_killed_leader_is_followed_within_its_lease_and_five_seconds(two: Pair) -> None:
    two.one.kill()
    renewed = last_renewal(two, two.one)
    assert not two.writes(two.two)  # it stood by
    taken = two.leads(two.two, TAKE_OVER + BUSY)
    assert LEASE <= taken - renewed <= TAKE_OVER
    two.acts(two.two)


def test_a_terminated_leader_hands_over_at_once(two: Pair) -> None:
    asked = now()
    two.one.terminate()
    taken = two.leads(two.two, 5.0)
    assert two.one.exit_code == 0
    assert taken - asked < 2.0
    two.acts(two.two)


def test_a_leader_that_was_frozen_for_longer_than_its_lease_writes_nothing_and_exits(
    two: Pair,
) -> None:
    two.one.stop()
    two.leads(two.two, TAKE_OVER + BUSY)
    two.acts(two.two)
    before = len(two.ways[two.one].writes)
    two.story.prompt("Answer in one sentence.")  # work that the frozen one would do, too
    two.story.in_phase("dark")
    two.one.cont()
    assert two.one.wait(20.0) == 1
    assert "another process may be leading" in two.one.log
    assert two.ways[two.one].writes[before:] == []
    assert two.holder.startswith("two")


@pytest.mark.soak
def test_a_leader_that_alone_cannot_reach_the_api_server_ends_before_another_begins(
    two: Pair,
) -> None:
    with two.ways[two.one].rule(Match(), Cut()):
        renewed = last_renewal(two, two.one)
        assert two.one.wait(RENEWAL + BUSY) == 1
        ended = now()
        assert not two.two.leading()
        taken = two.leads(two.two, TAKE_OVER + BUSY)
        assert ended < taken <= renewed + TAKE_OVER
    two.acts(two.two)


@pytest.mark.soak
@pytest.mark.parametrize("off", [3600, -3600])
def test_a_wall_clock_that_is_an_hour_wrong_changes_nobodys_turn(
    quiet_lab: Lab, quiet_admin: Api, tmp_path: Path, off: int
) -> None:
    def clock(name: str) -> list[str]:
        return [sys.executable, "-c", _WRONG_CLOCK, str(off)] if name == "two" else []

    with pair(quiet_lab, quiet_admin, tmp_path, clock=clock) as both:
        for _ in range(3):  # looks at the lease
            looks = both.ways[both.two].count(Match(verbs=["get"], plural="leases"))
            until(
                "another look at the lease",
                lambda seen=looks: (  # type: ignore[misc]
                    both.ways[both.two].count(Match(verbs=["get"], plural="leases")) > seen
                ),
            )
            assert both.one.leading()
            assert not both.two.leading()
        both.one.terminate()
        both.leads(both.two, 5.0)
        both.acts(both.two)
        said = both.two.log.split()[0]  # its log begins with its own idea of the time
        assert abs(seconds(said) - now() - off) < timedelta(minutes=2).total_seconds()
        # and under a leader with a wrong clock the other one waits its turn as well
        both.one.start()
        looks = both.ways[both.one].count(Match(verbs=["get"], plural="leases"))
        until(
            "three looks at the lease",
            lambda: both.ways[both.one].count(Match(verbs=["get"], plural="leases")) >= looks + 3,
        )
        assert both.two.leading()
        assert not both.one.leading()
