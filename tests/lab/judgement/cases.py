"""A case: a policy, a fault that breaks it, and what the rollback must say."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab import Lab
from tests.lab.main_job.cluster import Api
from tests.lab.main_job.manifests import CANARY, DARK, FULL, Json, container, template
from tests.lab.main_job.story import Story

NOTHING: Mapping[str, str] = MappingProxyType({})
MODEL = {"provider": "openai", "name": "gpt-4o-2024-11-20"}
PATIENCE = 100.0
"""Seconds until the slowest of many agents that share two cores must be done."""


@dataclass(frozen=True)
class Case:
    """One agent's story: good, then a revision with `fault` in its prompt.

    `trigger`: the metric that must take it back, or with `alert` hold it; `says`: a pattern in the
    sentence about that.
    `env`: of both revisions' containers. `rps`: of its users. `live_only`: the fault shows in
    front of users only, so that the rehearsal has to pass first.
    """

    name: str
    fault: str
    policy: Mapping[str, Any]
    trigger: str
    says: str
    env: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    rps: int = 20
    live_only: bool = False
    alert: bool = False
    planned: str = "10m"
    """How long the phase of the fault is meant to last: forecasts rest on a share of it."""
    traffic: Sequence[str] = ()

    @property
    def prompt(self) -> str:
        """The bad revision."""
        words = [f"degrade: {fault}" for fault in self.fault.split()]
        if self.live_only:
            words.append("degrade: LIVE_ONLY=true")
        return " ".join(["Answer as you like.", *words])

    @property
    def phases(self) -> tuple[Json, ...]:
        """Dark that lasts; with `live_only` a short Dark and a Canary that lasts."""
        last = {"minDuration": self.planned}
        return (DARK, {**CANARY, **last}, FULL) if self.live_only else ({**DARK, **last}, FULL)


@dataclass(frozen=True)
class Ended:
    """How a case went: what stopped it, all checks of that moment, the phases that it was in."""

    trigger: str
    """The metric that took it back, or held it; empty if nothing did."""
    message: str
    rolled_back: bool
    checks: Sequence[Json]
    phases: Sequence[str]

    @property
    def failed(self) -> set[str]:
        """Metrics of which a check fails."""
        return {metric_of(c["name"]) for c in self.checks if c["verdict"] == "Fail"}


def metric_of(check: str) -> str:
    """The metric of a check's name."""
    return check.removesuffix("-vs-baseline").removesuffix("-alert")


def live(lab: Lab, admin: Api, folder: Path, cases: Sequence[Case]) -> dict[str, Ended]:
    """Tell all stories at the same time; by name of the case."""
    with ExitStack() as stack:
        stories = {c.name: stack.enter_context(begin(lab, admin, folder)) for c in cases}
        for case in cases:
            _create(stories[case.name], case)
        for case in cases:
            story = stories[case.name]
            story.ready()
            story.users(case.rps, *case.traffic)
        for case in cases:
            stories[case.name].prompt(case.prompt)
        return {case.name: _end(stories[case.name], case) for case in cases}


@contextmanager
def begin(lab: Lab, admin: Api, folder: Path) -> Iterator[Story]:
    """An agent's story, in a namespace of its own; it ends with the block."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", namespace)
    with Story.begin(lab, admin.within(namespace), folder) as story:
        yield story
    lab.kubectl("delete", "namespace", namespace, "--wait=false")


def _create(story: Story, case: Case) -> None:
    story.create_policy(**case.policy)
    agent = {"systemPrompt": "Answer briefly.", "sideEffects": "DryRun", "model": MODEL}
    story.create(*case.phases, agent=agent, template=template(container(case.env)))


def _end(story: Story, case: Case) -> Ended:
    """Wait for what stops it; what there is without that."""
    try:
        story.until("it is stopped", _alarmed if case.alert else _taken_back, PATIENCE)
        message = ""
    except AssertionError as error:
        message = str(error)
    # The newest: an alert must not have become more than that while others were waited for.
    status = story.watch.seen[-1]["status"]
    rollback = status.get("rollback")
    checks = status.get("checks", ())
    trigger = ""
    if rollback is not None:
        trigger, message = metric_of(rollback["trigger"]), rollback["message"]
    elif loud := [c for c in checks if c["verdict"] == "Fail"]:
        trigger, message = metric_of(loud[0]["name"]), loud[0]["message"]
    return Ended(trigger, message, rollback is not None, checks, tuple(_phases(story)))


def _taken_back(version: Json) -> bool:
    return "rollback" in version["status"]


def _alarmed(version: Json) -> bool:
    return any(check["verdict"] == "Fail" for check in version["status"].get("checks", ()))


def _phases(story: Story) -> dict[str, None]:
    """The phases that it was in, in their order."""
    found = (seen["status"].get("progress") for seen in story.watch.seen if "status" in seen)
    return dict.fromkeys(progress["phase"]["name"] for progress in found if progress)
