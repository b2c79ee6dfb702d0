"""The small parts of the control loop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.base import Condition
from phasegate.api.records import Notice
from phasegate.api.verdicts import CheckSummary
from phasegate.control.admission import REQUIRED, RequiredPolicy, weakness
from phasegate.control.calls import CallCounter
from phasegate.control.children import contains
from phasegate.control.parse import workloads_of
from phasegate.control.rhythm import FLOOR, LATENCY, Rhythm
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector, parse_selector
from phasegate.rollout.observed import Measured
from phasegate.rollout.reasons import Reason
from phasegate.rollout.telling import Change, change

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
ADMISSION = Path(__file__).parents[2] / "config" / "admission"


# --- calls ---------------------------------------------------------------------------------------


def series(arm: Arm, *samples: tuple[float, float], pod: str = "p", name: str = "calls") -> Series:
    return Series(arm, name, (("pod", pod),), samples)


def counting(counted: Selector, since: float, *, lasting: bool = False) -> CallCounter:
    counter = CallCounter(counted, lasting=lasting)
    counter.begin(since)
    return counter


def calls(counter: CallCounter) -> Measured:
    measured = counter.measured()
    assert measured is not None
    return measured


def test_calls_count_from_since_and_what_a_pod_counted_before_does_not() -> None:
    counter = counting(Selector("calls"), since=100)
    counter.add([series("candidate", (99, 1000), (101, 1010)), series("baseline", (102, 5000))])
    counter.add([series("candidate", (101, 1010), (103, 1015)), series("baseline", (104, 5007))])
    assert calls(counter).candidate == 15
    assert calls(counter).stable == 7


def test_what_was_seen_before_counting_began_is_not_counted_and_is_what_later_values_grow_from() -> (
    None
):
    counter = CallCounter(Selector("calls"))
    counter.add([series("candidate", (90, 1000))])
    counter.add([series("baseline", (95, 5000))])
    assert counter.measured() is None
    counter.begin(100)
    counter.add([])
    counter.add([series("candidate", (101, 1004))])
    counter.add([series("baseline", (102, 5007))])
    assert (calls(counter).candidate, calls(counter).stable) == (4, 7)
    counter.begin(100)
    assert calls(counter).stable == 7
    counter.begin(110)
    assert calls(counter).stable == 0


def test_an_empty_first_reading_makes_nobodys_past_count() -> None:
    counter = counting(Selector("calls"), since=100)
    counter.add([])
    counter.add([series("baseline", (102, 5000))])
    assert calls(counter).stable == 0


def test_a_pod_that_comes_later_counts_from_zero_and_a_reset_is_not_negative() -> None:
    counter = counting(Selector("calls"), since=0)
    counter.add([series("candidate", (1, 10))])
    counter.add([series("candidate", (2, 4)), series("candidate", (2, 3), pod="new")])
    assert calls(counter).candidate == 7


def test_a_place_in_the_route_has_counted_for_others_before() -> None:
    counter = counting(Selector("calls"), since=0, lasting=True)
    counter.add([series("baseline", (1, 500), pod="envoy-1")])
    counter.add([series("candidate", (2, 900), pod="envoy-2")])
    counter.add([series("candidate", (3, 907), pod="envoy-2")])
    assert calls(counter).candidate == 7


def test_only_calls_of_the_selectors_labels_count() -> None:
    counter = counting(parse_selector('calls{code!="499"}'), since=0)
    labels = (("code", "499"), ("pod", "p"))
    counter.add([series("candidate", (1, 1)), Series("candidate", "calls", labels, ((1, 5),))])
    counter.add([series("candidate", (2, 3)), Series("candidate", "calls", labels, ((2, 9),))])
    assert calls(counter).candidate == 2


def test_other_series_and_unusable_values_do_not_count() -> None:
    counter = counting(Selector("calls"), since=0)
    counter.add([series("candidate", (1, 0))])
    counter.add(
        [series("candidate", (2, float("nan")), (3, 5)), series("candidate", (3, 9), name="x")]
    )
    assert calls(counter).candidate == 5


# --- rhythm --------------------------------------------------------------------------------------


def test_the_next_look_is_right_after_the_next_scrape() -> None:
    rhythm = Rhythm(longest=60)
    rhythm.seen({"a": 100.0, "b": 100.4})
    rhythm.seen({"a": 115.0, "b": 115.4})
    assert rhythm.pause(now=116.0, took=0.01, attempts=1) == pytest.approx(14 + LATENCY)


def test_a_late_scrape_is_waited_for_and_a_dead_target_is_not() -> None:
    rhythm = Rhythm(longest=60)
    rhythm.seen({"a": 100.0})
    rhythm.seen({"a": 115.0})
    assert rhythm.pause(now=130.5, took=0.001, attempts=1) == FLOOR
    assert rhythm.pause(now=150.0, took=0.001, attempts=1) == 60


def test_looking_takes_half_of_the_time_at_most_and_less_often_as_the_fleet_grows() -> None:
    rhythm = Rhythm(longest=1)
    rhythm.seen({"a": 100.0})
    rhythm.seen({"a": 101.0})
    assert rhythm.pause(now=102.0, took=0.5, attempts=1) == pytest.approx(0.5)
    assert rhythm.pause(now=102.0, took=2.0, attempts=1000) == pytest.approx(3.0)
    assert rhythm.pause(now=102.0, took=6.0, attempts=1000) == pytest.approx(6.0)


# --- identity ------------------------------------------------------------------------------------


def shipped(required: RequiredPolicy = REQUIRED[0]) -> tuple[dict[str, Any], dict[str, Any]]:
    file = ADMISSION / f"{required.name.removeprefix('phasegate-')}.yaml"
    policy, binding = yaml.safe_load_all(file.read_text())
    return policy, binding


@pytest.mark.parametrize("required", REQUIRED)
def test_the_policies_that_are_shipped_enforce_identity(required: RequiredPolicy) -> None:
    assert weakness(required, *shipped(required)) is None


def test_a_policy_that_lets_anybody_be_the_author_is_noticed() -> None:
    policy, binding = shipped(REQUIRED[1])
    del policy["spec"]["validations"][-1]
    assert "does not check" in (weakness(REQUIRED[1], policy, binding) or "")
    policy, binding = shipped(REQUIRED[1])
    policy["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["CREATE"]
    assert "does not look at every UPDATE of agentdeployments" in (
        weakness(REQUIRED[1], policy, binding) or ""
    )


def weaken(policy: dict[str, Any], binding: dict[str, Any], how: str) -> None:
    spec, bound = policy["spec"], binding["spec"]
    changes: dict[str, Any] = {
        "ignore failures": lambda: spec.update(failurePolicy="Ignore"),
        "audit only": lambda: bound.update(validationActions=["Audit"]),
        "other policy": lambda: bound.update(policyName="another"),
        "some namespaces": lambda: bound.update(matchResources={"namespaceSelector": {"a": "b"}}),
        "a condition": lambda: spec.update(matchConditions=[{"name": "x", "expression": "false"}]),
        "parameters": lambda: spec.update(paramKind={"apiVersion": "v1", "kind": "ConfigMap"}),
        "no actor check": lambda: spec["validations"].pop(0),
        "no groups check": lambda: spec["validations"].pop(1),
        "no verb check": lambda: spec["validations"].pop(2),
        "other expression": lambda: spec["validations"][0].update(expression="true"),
        "some operations": lambda: spec["matchConstraints"]["resourceRules"][0].update(
            operations=["UPDATE"]
        ),
        "excluded": lambda: spec["matchConstraints"].update(excludeResourceRules=[{"a": 1}]),
    }
    changes[how]()


@pytest.mark.parametrize(
    "how",
    [
        "ignore failures",
        "audit only",
        "other policy",
        "some namespaces",
        "a condition",
        "parameters",
        "no actor check",
        "no groups check",
        "no verb check",
        "other expression",
        "some operations",
        "excluded",
    ],
)
def test_a_weakened_policy_is_noticed(how: str) -> None:
    policy, binding = shipped()
    weaken(policy, binding, how)
    assert weakness(REQUIRED[0], policy, binding) is not None


def test_a_missing_policy_or_binding_is_noticed() -> None:
    policy, binding = shipped()
    assert "does not exist" in (weakness(REQUIRED[0], None, binding) or "")
    assert "no binding" in (weakness(REQUIRED[0], policy, None) or "")


# --- what differs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"x": 1, "default": True}]}, {"a": [{"x": 1}]}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {"a": {}}, False),
    ],
)
def test_a_live_object_may_say_more_but_nothing_else(live: Any, wanted: Any, same: bool) -> None:
    assert contains(live, wanted) is same


def status(**changes: Any) -> AgentDeploymentStatus:
    check = CheckSummary(
        name="error-rate",
        level="rollback",
        verdict="Inconclusive",
        reason="StillUncertain",
        message="candidate 1.2% (3/250), needs 1m30s more",
    )
    ready = Condition(
        type="Ready",
        status="False",
        reason=Reason.COLLECTING_EVIDENCE,
        message="at least 1h30m to go",
        last_transition_time=NOW,
    )
    base = AgentDeploymentStatus(
        message="at least 1h30m to go", checks=(check,), conditions=(ready,)
    )
    return base.model_copy(update=changes)


def test_newer_numbers_can_wait_longest() -> None:
    old = status()
    newer = old.checks[0].model_copy(update={"message": "candidate 1.3% (4/300), needs 29s more"})
    assert change(old, status(checks=(newer,), message="at least 59m to go")) is Change.NUMBERS


def test_a_verdict_that_decides_nothing_can_wait_a_little() -> None:
    old = status()
    passed = old.checks[0].model_copy(update={"verdict": "Pass", "message": "under the limit"})
    assert change(old, status(checks=(passed,))) is Change.VERDICTS
    held = status(conditions=(holding(old),), message="outside the gate")
    assert change(held, old) is Change.VERDICTS


def holding(old: AgentDeploymentStatus) -> Condition:
    return old.conditions[0].model_copy(
        update={"reason": Reason.HELD_BY_EVIDENCE, "message": "outside the gate"}
    )


def test_what_people_wait_for_is_told_at_once() -> None:
    old = status()
    other = old.checks[0].model_copy(update={"name": "latency-p95"})
    notice = Notice(kind="EarlyWarning", check="error-rate", message="worse", since=NOW)
    warned, quiet = (
        status(notices=(notice,)),
        status(notices=(notice.model_copy(update={"quiet_since": NOW}),)),
    )
    assert change(old, warned) is Change.NEWS
    assert change(warned, quiet) is Change.NEWS, "the next decisions count from it"
    failed = old.checks[0].model_copy(update={"verdict": "Fail"})
    ready = old.conditions[0].model_copy(update={"status": "True"})
    paused = old.conditions[0].model_copy(
        update={"reason": Reason.HELD_BY_PERSON, "message": "by alice"}
    )
    for news in (
        status(checks=(failed,)),
        status(phase="Canary"),
        status(checks=(other,)),
        status(conditions=(holding(old),), message="outside the gate"),
        status(conditions=(ready,)),
        status(conditions=(paused,), message="by alice"),
    ):
        assert change(old, news) is Change.NEWS
    stuck = status(conditions=(paused,), message="by alice")
    assert change(stuck, status(conditions=(paused,), message="by bob")) is Change.NEWS


# --- why pods are missing ------------------------------------------------------------------------


def deployment(conditions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    labels = {"phasegate.dev/revision": "a" * 10, "phasegate.dev/mode": "live"}
    return {
        "metadata": {"name": "d", "labels": labels},
        "spec": {"replicas": 2},
        "status": {"readyReplicas": 1, "conditions": conditions or []},
    }


SERVICES = frozenset({"d"})


def test_a_workload_without_its_service_is_not_ready() -> None:
    (found,) = workloads_of([deployment()], [], frozenset())
    assert found.ready == 0
    assert found.problem == "Service d of this agent does not exist (yet)"


def pod(**container: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": deployment()["metadata"]["labels"]},
        "status": {"containerStatuses": [{"name": "agent", **container}]},
    }


def test_a_crash_loop_says_how_the_process_ended() -> None:
    crashing = pod(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 3, "reason": "Error"}},
    )
    (found,) = workloads_of([deployment()], [crashing], SERVICES)
    assert found.problem == "container agent is in CrashLoopBackOff: exit code 3 Error"


def test_a_quota_is_told_before_anything_else() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    waiting = pod(state={"waiting": {"reason": "ErrImagePull"}})
    (found,) = workloads_of([deployment([failure])], [waiting], SERVICES)
    assert found.problem == "exceeded quota"


def test_a_pod_that_is_only_starting_is_no_problem() -> None:
    starting = pod(state={"waiting": {"reason": "ContainerCreating"}})
    (found,) = workloads_of([deployment()], [starting], SERVICES)
    assert found.problem is None


def test_a_pod_of_another_revision_explains_nothing() -> None:
    other = pod(state={"waiting": {"reason": "ErrImagePull"}})
    other["metadata"] = {"labels": {"phasegate.dev/revision": "b" * 10}}
    (found,) = workloads_of([deployment()], [other], SERVICES)
    assert found.problem is None
