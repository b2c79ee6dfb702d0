"""A freeze on a real cluster: what waits says so, kubectl lets it go on, and a rollback never asks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.lab.main_job.cluster import Json
from tests.lab.main_job.manifests import BETTER_PROMPT, CANARY, FULL, NAME, longer
from tests.lab.main_job.story import Story, condition_of, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


FREEZE: Json = {
    **{"name": "sale", "timeZone": "Europe/Berlin", "reason": "everybody is here"},
    **{"from": "2026-01-01", "until": "2098-12-31"},
}


def frozen(story: Story, what: str) -> Json:
    """Wait until this waits for the end of the freeze."""

    def met(version: Json) -> bool:
        ready = condition_of(version, "Ready")
        return bool(ready.get("reason") == "Frozen" and what in ready["message"])

    version = story.until(f"Frozen: {what}", met)
    status = version["status"]
    assert datetime.fromisoformat(status["nextDecisionAt"]) == datetime(
        2098, 12, 31, 23, tzinfo=UTC
    )
    assert "frozen by sale of the agent (everybody is here)" in status["message"]
    assert (
        "it goes on at Thu 2099-01-01 00:00 Europe/Berlin (Wed 2098-12-31 23:00 UTC)"
        in (status["message"])
    )
    assert condition_of(version, "Stalled") == {}
    return version


def let_it_go_on(story: Story) -> None:
    """What a person does."""
    patch = '[{"op": "remove", "path": "/spec/freezes"}]'
    arguments = ("patch", "agentdep", NAME, "--type=json", "-p", patch)
    story.lab.kubectl("-n", story.api.namespace, *arguments)


def test_in_a_freeze_everything_waits_but_a_rollback(story: Story) -> None:
    old = story.stable(CANARY, longer(FULL), freezes=[FREEZE])
    story.users()
    story.prompt(BETTER_PROMPT)
    version = frozen(story, "is to begin")
    assert "progress" not in version["status"]
    let_it_go_on(story)
    new = str(story.in_phase("canary-40")["status"]["candidateRevision"])

    story.change(freezes=[FREEZE])
    assert shares(frozen(story, "canary-40 passed")) == {old: 60, new: 40}
    let_it_go_on(story)
    assert shares(story.in_phase("full")) == {old: 0, new: 100}

    story.change(freezes=[FREEZE])
    story.act("Rollback", new)
    assert shares(story.rolled_back()) == {old: 100, new: 0}
