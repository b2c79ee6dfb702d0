"""A real operator dies again and again in one story, before or after its writes: the end is the same.

`tests/control/test_crash_matrix.py` tries every write by itself, on a simulated cluster. Here the
API server, the gateway, the evidence and the death are real: SIGKILL, from within the request.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab
from lab.faults import Call, Match
from lab.faults.requests import WRITES, Seen
from tests.lab.faults.scene import Scene, opened
from tests.lab.main_job.cluster import Api, Json, until
from tests.lab.main_job.manifests import (
    BAD_PROMPT,
    BETTER_PROMPT,
    CANARY,
    FULL,
    GOOD_PROMPT,
    NAME,
    SHADOW,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SIDES = ("before", "after")
PATIENCE = 100.0
"""Seconds for a story in which the operator is started several times."""
TIMES = 3
"""Deaths in one story at writes of one kind."""
Kind = tuple[str, str, str]
"""Verb, plural and subresource."""
DECISIVE: tuple[Kind, ...] = (
    ("create", "agentrollouts", ""),
    ("apply", "httproutes", ""),
    ("patch", "agentrollouts", "status"),
)
"""Kinds that a story in every run of the tests dies at, once each; `make soak` tries every kind."""


@dataclass
class Reaper:
    """Kills the operator at some of its writes, and looks at each of its routes on the way."""

    scene: Scene
    kinds: Collection[Kind]
    side: str
    times: int = 1
    deaths: list[Kind] = field(default_factory=list)
    writes: list[Kind] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dead: threading.Event = field(default_factory=threading.Event)

    def before(self, seen: Seen) -> bool:
        """False cuts the request off: the operator that sent it is gone."""
        if not _counts(seen):
            return True
        self.writes.append(_kind(seen))
        if seen.plural == "httproutes":
            self.wrong += _above_its_step(self.scene, seen)
        return self.side != "before" or not self._due(seen)

    def after(self, seen: Seen) -> bool:
        """False loses the answer."""
        return self.side != "after" or not _counts(seen) or not self._due(seen)

    def _due(self, seen: Seen) -> bool:
        kind = _kind(seen)
        if kind not in self.kinds or self.deaths.count(kind) >= self.times:
            return False
        self.scene.operator.kill()
        self.deaths.append(kind)
        self.dead.set()
        return True

    def until(self, what: str, met: Callable[[], object]) -> None:
        """Wait; whenever the operator has died, start another."""

        def look() -> bool:
            if self.dead.is_set():
                self.dead.clear()
                self.scene.operator.start(wait=False)
            return bool(met())

        until(what, look, PATIENCE)


def _kind(seen: Seen) -> Kind:
    return seen.verb, seen.plural, seen.subresource


def _counts(seen: Seen) -> bool:
    return seen.write and seen.plural not in ("events", "leases")


def _above_its_step(scene: Scene, seen: Seen) -> list[str]:
    """Why this write of the route gives the candidate more than the stored status allows."""
    agent = scene.api.find("agentdeployments", NAME)
    status = (agent or {}).get("status") or {}
    candidate, phase = (
        status.get("candidateRevision"),
        (status.get("progress") or {}).get("phase", {}),
    )
    if candidate is None or seen.verb == "delete" or candidate == status.get("stableRevision"):
        return []
    allowed = {"Full": 100, "Canary": phase.get("weight", 0)}.get(phase.get("type", ""), 0)
    backends = yaml.safe_load(seen.body)["spec"]["rules"][0]["backendRefs"]
    total = sum(backend["weight"] for backend in backends)
    its = sum(b["weight"] for b in backends if b["name"] == f"{NAME}-{candidate}")
    share = 100 * its / total
    return [f"{share:.1f} % in {phase}"] if share > allowed + 0.001 else []


def end_of(scene: Scene) -> dict[str, Any]:
    """What is left, without times and numbers."""
    status = scene.api.get("agentdeployments", NAME)["status"]
    rollback = status.get("rollback") or {}
    events = [e for e in scene.api.list("events") if e["regarding"].get("name") == NAME]
    route = scene.api.get("httproutes", NAME)["spec"]["rules"]
    return {
        "status": [status.get(n) for n in ("phase", "stableRevision", "rejectedRevisions")],
        "rollback": [rollback.get(n) for n in ("revision", "to", "phase", "trigger")],
        "records": [
            (r["metadata"]["name"], r["status"]["phase"], _gates(r))
            for r in scene.api.list("agentrollouts")
        ],
        "deployments": sorted(d["metadata"]["name"] for d in scene.api.list("deployments")),
        "revisions": sorted(r["metadata"]["name"] for r in scene.api.list("controllerrevisions")),
        "route": json.dumps([rule["backendRefs"] for rule in route], sort_keys=True),
        "events": Counter(e["reason"] for e in events),
    }


def _gates(record: Json) -> list[tuple[str, str, str]]:
    return [(g["decision"], g["fromPhase"], g["toPhase"]) for g in record["status"]["gates"]]


def tell(
    scene: Scene, prompt: str, kinds: Collection[Kind], *, side: str, times: int = 1
) -> Reaper:
    """One story from a stable revision to its end, with its deaths."""
    story = scene.story
    stable = story.stable(SHADOW, CANARY, FULL, prompt=GOOD_PROMPT)
    story.users()
    reaper = Reaper(scene, kinds, side, times)
    with scene.proxy.rule(Match(verbs=WRITES), Call(before=reaper.before, after=reaper.after)):
        story.prompt(prompt)

        def over() -> bool:
            status = scene.api.get("agentdeployments", NAME)["status"]
            safe = "safeAt" in (status.get("rollback") or {})
            told = [
                r["status"].get("phase") for r in scene.api.list("agentrollouts") if "status" in r
            ]
            done = told in (["RolledBack"], ["Succeeded"])
            return done and (safe or status["stableRevision"] != stable)

        reaper.until("the end of the story", over)
    if reaper.dead.is_set():
        scene.operator.start(wait=False)
    return reaper


def assert_ends_well(scene: Scene, reaper: Reaper, *, good: bool) -> None:
    """It ended as the story does without any death, and nothing is there twice."""
    assert reaper.wrong == []
    name = f"{NAME}-1"
    started = [("Started", "stable", "shadow"), ("Advanced", "shadow", "canary-40")]
    ends = (
        [("Advanced", "canary-40", "full"), ("Stable", "full", "stable")]
        if good
        else [("RolledBack", "canary-40", "stable")]
    )
    told = {"RolloutStarted": 1, "PhaseAdvanced": 2 if good else 1}
    told |= {"Promoted": 1} if good else {"RolledBack": 1, "TrafficSafe": 1}

    def right() -> bool:
        end = end_of(scene)
        events = {reason: end["events"].get(reason, 0) for reason in told}
        records = [(name, "Succeeded" if good else "RolledBack", [*started, *ends])]
        settled = end["status"][0] == ("Stable" if good else "RolledBack")
        pods = len(end["deployments"]) == (2 if good else 1)
        return records == end["records"] and settled and events == told and pods

    try:
        until("the end", right, 60)
    except AssertionError:
        raise AssertionError(f"{end_of(scene)} after {reaper.deaths}") from None
    assert len(end_of(scene)["revisions"]) == 2


def test_a_rollback_ends_the_same_although_the_operator_dies_at_its_decisive_writes(
    scene: Scene,
) -> None:
    reaper = tell(scene, BAD_PROMPT, DECISIVE, side="after")
    assert sorted(reaper.deaths) == sorted(DECISIVE)
    assert_ends_well(scene, reaper, good=False)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("prompt", [BAD_PROMPT, BETTER_PROMPT], ids=["bad", "good"])
def test_a_story_ends_the_same_at_whatever_kind_of_write_the_operator_dies(
    quiet_lab: Lab, quiet_admin: Api, tmp_path: Path, prompt: str, side: str
) -> None:
    good = prompt == BETTER_PROMPT
    with opened(quiet_lab, quiet_admin, tmp_path) as scene:
        undisturbed = tell(scene, prompt, (), side=side)
        assert_ends_well(scene, undisturbed, good=good)
    for kind in sorted(set(undisturbed.writes)):
        with opened(quiet_lab, quiet_admin, tmp_path) as scene:
            reaper = tell(scene, prompt, (kind,), side=side, times=TIMES)
            assert reaper.deaths
            assert_ends_well(scene, reaper, good=good)
