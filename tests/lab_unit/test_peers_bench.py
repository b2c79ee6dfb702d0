"""What the comparison with the peers makes of routes and of what it measured."""

from __future__ import annotations

import numpy as np
import pytest

from bench.peers.delay import Run
from bench.peers.exporter import Traffic
from bench.peers.ours import Phasegate
from bench.peers.plan import Plan
from bench.peers.report import quantile
from bench.peers.tools import Setting, shares
from bench.peers.world import Subject


def subject() -> Subject:
    return Subject(Phasegate(), Setting("any"), "a", Traffic(10.0))


def test_shares_are_read_from_an_httproute_and_from_a_traefikservice() -> None:
    refs = [{"name": "a-stable", "weight": 80}, {"name": "a-canary", "weight": 20}]
    wanted = {"stable": 0.8, "canary": 0.2}
    assert shares({"spec": {"rules": [{"backendRefs": refs}]}}, "a") == wanted
    assert shares({"spec": {"weighted": {"services": refs}}}, "a") == wanted


def test_one_call_in_a_million_is_safe() -> None:
    agent = subject()
    agent.route({"old": 1.0}, 1.0)
    agent.route({"old": 0.8, "new": 0.2}, 2.0)
    agent.route({"old": 1 - 1e-6, "new": 1e-6}, 3.0)
    assert (agent.candidate, agent.given, agent.safe) == ("new", 2.0, 3.0)


def test_who_gets_users_again_was_not_safe() -> None:
    agent = subject()
    agent.route({"stable": 1.0, "canary": 0.0}, 1.0)
    for at, share in ((2.0, 0.2), (3.0, 0.0), (4.0, 0.2)):
        agent.route({"stable": 1 - share, "canary": share}, at)
    assert agent.safe is None
    agent.route({"stable": 1.0, "canary": 0.0}, 5.0)
    assert agent.safe == 5.0


def test_a_rollback_before_the_fault_is_no_rollback_of_it() -> None:
    assert Run(flipped=10.0, breach=None, safe=9.0, newest=None).premature
    run = Run(flipped=10.0, breach=11.0, safe=11.5, newest=None)
    assert not run.premature
    assert run.delay == pytest.approx(0.5)


def test_calls_are_counted_where_the_route_sends_them() -> None:
    traffic = Traffic(100.0, rates={"new": lambda _: 1.0})
    traffic.share_out({"old": 0.8, "new": 0.2})
    chance = np.random.default_rng(1)
    for second in range(1, 102):
        traffic.count(float(second), chance)
    assert traffic.counters["new"].calls == pytest.approx(2000, rel=0.1)
    assert traffic.counters["new"].errors == traffic.counters["new"].calls
    assert traffic.counters["old"].errors < 0.03 * traffic.counters["old"].calls


def test_a_quantile_is_a_measured_value() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_plan_survives_being_an_argument() -> None:
    plan = Plan(fleets=(20,)).quick()
    assert Plan.parse(plan.text()) == plan
