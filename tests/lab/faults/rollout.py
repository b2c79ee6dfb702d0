"""A candidate in front of users that a test may spoil whenever it likes, again and again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import Lab
from lab.faults import Cut, FaultProxy, Match
from tests.lab.faults.scene import Scene, opened
from tests.lab.judgement.faults import CONTROL, fault_urls, send_faults
from tests.lab.main_job.cluster import PATIENCE, Api, Json, until
from tests.lab.main_job.manifests import CANARY, FULL, NAME, container, longer, template
from tests.lab.main_job.story import Story, Users

ROUTES = Match(verbs=["apply", "patch", "update", "create"], plural="httproutes")
STATUSES = Match(verbs=["patch"], plural="agentdeployments", subresource="status")
WATCHES = Match(verbs=["watch"])


@dataclass
class Canary:
    """One agent with users; each `begin` brings a new candidate up to its canary step."""

    scene: Scene
    stable: str
    users: Users
    candidate: str = ""
    candidates: set[str] = field(default_factory=set)
    """All that there have been."""
    _pods: Sequence[str] = ()

    @property
    def story(self) -> Story:
        return self.scene.story

    @property
    def proxy(self) -> FaultProxy:
        return self.scene.proxy

    def begin(self) -> str:
        """A new revision, which gets its share of the users; its hash."""
        self.proxy.clear()
        self.proxy.rule(WATCHES, Cut()).remove()  # streams that fell silent are not missed
        self.story.prompt(f"You are the support agent, {uuid.uuid4().hex[:6]}.")
        version = self.story.in_phase("canary-40")
        self.candidate = str(version["status"]["candidateRevision"])
        self.candidates.add(self.candidate)
        self._pods = fault_urls(self.scene.api, self.candidate)
        return self.candidate

    def spoil(self) -> None:
        """From now on most of the candidate's answers are errors. Needs no API server."""
        send_faults(self.scene.lab, self._pods, ERROR_RATE="0.9")

    def exposed(self) -> bool:
        """Whether the route still sends users to the candidate."""
        (route,) = self.scene.api.list("httproutes")
        weights = {
            backend["name"]: backend.get("weight", 1)
            for rule in route["spec"]["rules"]
            for backend in rule.get("backendRefs", ())
        }
        mine = weights.get(f"{NAME}-{self.candidate}", 0)
        return bool(mine > sum(weights.values()) / 1000)

    def until_safe(self, patience: float = PATIENCE) -> Json:
        """Wait until the status says that the candidate was taken back; `rollback` of the status."""

        def told(version: Json) -> bool:
            rollback = version["status"].get("rollback") or {}
            return rollback.get("revision") == self.candidate and "safeAt" in rollback

        version = self.story.until("taken back and safe", told, patience)
        assert not self.exposed()
        rollback: Json = version["status"]["rollback"]
        return rollback

    def says(self, words: str) -> str:
        """Wait until the status' message has these words; all of it."""

        def told() -> str | None:
            message = str(self.scene.api.get("agentdeployments", NAME)["status"]["message"])
            return message if words in message else None

        return until(f"the status says {words!r}", told)

    def events(self, reason: str) -> list[Json]:
        """What was told of this candidate under this reason."""
        return [
            event
            for event in self.scene.api.list("events")
            if event["reason"] == reason and self.candidate in json.dumps(event)
        ]


@contextmanager
def canary(lab: Lab, admin: Api, folder: Path, **options: Any) -> Iterator[Canary]:
    """The agent serves and people use it; `options` are those of OperatorProcess."""
    with opened(lab, admin, folder, **options) as scene:
        kinds = (longer(CANARY), FULL)
        stable = scene.story.stable(*kinds, template=template(container(CONTROL)))
        yield Canary(scene, stable, scene.story.users(80))
