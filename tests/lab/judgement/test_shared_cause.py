"""An outage that both revisions suffer is not the candidate's fault; the candidate's own is."""

from __future__ import annotations

import pytest

from tests.lab.judgement.faults import CONTROL, set_faults
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    CANARY,
    DARK,
    FULL,
    container,
    template,
)
from tests.lab.main_job.story import Story, condition_of, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def test_a_shared_outage_holds_and_says_so_and_the_candidates_own_takes_it_back(
    story: Story,
) -> None:
    old = story.stable(
        DARK, {**CANARY, "minDuration": "5s"}, FULL, template=template(container(CONTROL))
    )
    users = story.users(80)
    story.prompt(BETTER_PROMPT)
    new = story.in_phase("canary-40")["status"]["candidateRevision"]

    set_faults(story.lab, story.api, old, new, ERROR_RATE="0.6")  # as when the model is down
    held = story.until(
        "it holds and says why",
        lambda v: "shared cause" in v["status"]["message"],
    )
    assert condition_of(held, "Ready")["reason"] == "Holding"
    assert "the baseline is as bad: shared cause, holding" in held["status"]["message"]
    assert shares(held) == {old: 60, new: 40}
    since = users.answers[-1].sent
    users.go_on_past(since + 12)  # longer than the phase: it does not advance either
    status = story.watch.seen[-1]["status"]
    assert "rollback" not in status
    assert status["progress"]["phase"]["name"] == "canary-40"
    assert shares(story.watch.seen[-1]) == {old: 60, new: 40}
    failing = {a.revision for a in users.answers if a.sent > since and a.outcome == "error"}
    assert failing == {old, new}

    set_faults(story.lab, story.api, old)  # the stable revision recovers, the candidate does not
    rollback = story.rolled_back()["status"]["rollback"]
    assert (rollback["trigger"], rollback["to"]) == ("error-rate", old)
    assert "baseline" in rollback["message"]
    safe = seconds(rollback["safeAt"])
    got = users.go_on_past(safe + 2)
    assert {a.revision for a in got if a.sent > safe} == {old}
