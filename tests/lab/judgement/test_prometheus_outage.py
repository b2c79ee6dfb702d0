"""Without Prometheus nothing is decided: traffic stays as it is, one alert, and it goes on later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.judgement.cases import begin
from tests.lab.main_job.cluster import Api
from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, DARK, FULL
from tests.lab.main_job.story import Story, condition_of, shares

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(300)]
PATIENCE = "20s"
OUTAGE = 75.0
"""Seconds that it lasts: many times the policy's patience and the time a sample counts as fresh."""


@pytest.fixture(scope="module")
def deaf() -> Iterator[Lab]:
    """A lab of this module's own, whose Prometheus may be stopped."""
    forwards = ("0:apiserver", "0:gateway", "0:prometheus")
    with Lab.up(f"deaf-{os.getpid()}", forwards=forwards) as lab:
        lab.start_operator()
        yield lab


@pytest.fixture
def lonely(deaf: Lab, tmp_path: Path) -> Iterator[Story]:
    with Api.of(deaf, "admin") as api, begin(deaf, api, tmp_path) as story:
        yield story


def alerts(story: Story) -> list[str]:
    return [
        event["note"]
        for event in story.api.list("events")
        if event["reason"] == "PausedWithoutData"
    ]


def test_an_outage_of_prometheus_changes_no_traffic_alerts_once_and_is_gone_by_itself(
    lonely: Story,
) -> None:
    lonely.create_policy(onNoData={"hold": PATIENCE, "then": "Pause"})
    old = lonely.stable(DARK, {**CANARY, "minDuration": "30s"}, FULL)
    users = lonely.users(40)
    lonely.prompt(BETTER_PROMPT)
    entered = lonely.in_phase("canary-40")
    new = entered["status"]["candidateRevision"]
    mark = len(lonely.watch.seen)
    begun = users.go_on_past(0)[-1].sent

    lonely.lab.part("stop", "prometheus")
    paused = lonely.until(
        "it pauses",
        lambda v: condition_of(v, "Ready").get("reason") == "PausedWithoutData",
        seconds=OUTAGE + 60,
    )
    assert f"no evidence for more than {PATIENCE}" in paused["status"]["message"]
    users.go_on_past(begun + OUTAGE, patience=OUTAGE + 30)
    dark = lonely.watch.seen[mark:]
    assert all(shares(version) == {old: 60, new: 40} for version in dark)
    assert {v["status"]["progress"]["phase"]["name"] for v in dark} == {"canary-40"}
    assert not any("rollback" in v["status"] for v in dark)
    assert len(alerts(lonely)) == 1

    lonely.lab.part("start", "prometheus")
    ready = lonely.until(
        "the new revision is stable", lambda v: v["status"].get("stableRevision") == new, 90
    )
    assert "rollback" not in ready["status"]
    assert len(alerts(lonely)) == 1
    outage = [a for a in users.answers if begun < a.sent < begun + OUTAGE]
    assert {a.status for a in outage} == {200}
    assert sum(a.revision == new for a in outage) / len(outage) == pytest.approx(0.4, abs=0.06)
