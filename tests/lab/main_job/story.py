"""An agent and its users: what people do to it, and what they see of it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx

from lab import Lab
from tests.lab.main_job.cluster import PATIENCE, Api, Json, Watch, until
from tests.lab.main_job.manifests import NAME, agent, hostname, policy


@dataclass(frozen=True)
class Answer:
    """One line of the record: what a user got. Times in seconds since the epoch."""

    sent: float
    done: float
    revision: str
    outcome: str
    status: int


class Users:
    """`lab traffic`, recording each answer."""

    def __init__(self, record: Path, process: subprocess.Popen[bytes]) -> None:
        self._record, self._process = record, process

    @property
    def answers(self) -> list[Answer]:
        """What users got so far, in the order in which it ended."""
        complete = self._record.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in complete.splitlines()]
        return [
            Answer(line["t"], line["t_done"], line["revision"], line["outcome"], line["status"])
            for line in lines
        ]

    def go_on_until(
        self, what: str, enough: Callable[[Sequence[Answer]], bool], patience: float = PATIENCE
    ) -> list[Answer]:
        """Wait until what they got is enough; `patience` in seconds."""

        def look() -> list[Answer] | None:
            assert self._process.poll() is None, "the traffic ended"
            answers = self.answers
            return answers if enough(answers) else None

        return until(f"users: {what}", look, patience)

    def go_on_past(self, time: float, patience: float = PATIENCE) -> list[Answer]:
        """Wait until requests sent after `time` are answered; `patience` in seconds."""
        return self.go_on_until(
            "time goes by", lambda got: bool(got) and got[-1].sent > time, patience
        )

    def stop(self) -> list[Answer]:
        """No more requests; what they got. Answers of the last quarter of a second may be missing."""
        self._process.kill()
        self._process.wait()
        return self.answers


@dataclass
class Story:
    """One agent, watched from before it exists."""

    lab: Lab
    api: Api
    folder: Path
    watch: Watch
    stack: ExitStack
    _next: int = field(default=0)
    """Position of the version at which the last wait ended: the story only goes forwards."""
    _generation: int = field(default=0)

    @classmethod
    @contextmanager
    def begin(cls, lab: Lab, api: Api, folder: Path) -> Iterator[Self]:
        """Nothing is there yet; traffic and the watch end with the block."""
        with ExitStack() as stack, Watch(api, "agentdeployments", NAME) as watch:
            yield cls(lab, api, folder, watch, stack)

    def create(self, *phases: Json, **spec: Any) -> Json:
        """The policy and the agent of the test's namespace."""
        if self.api.find("rollbackpolicies", "policy") is None:
            self.create_policy()
        return self.create_agent(agent(self.api.namespace, *phases, **spec))

    def create_policy(self, **spec: Any) -> Json:
        return self.api.create("rollbackpolicies", policy(**spec))

    def create_agent(self, manifest: Json) -> Json:
        created = self.api.create("agentdeployments", manifest)
        self._generation = created["metadata"]["generation"]
        return created

    def stable(self, *phases: Json, **spec: Any) -> str:
        """Create it and wait until it serves; the hash of its revision."""
        self.create(*phases, **spec)
        return str(self.ready()["status"]["stableRevision"])

    def change(self, **spec: Any) -> int:
        """Edit the spec with a merge patch; the new generation."""
        return self.edit({"spec": spec})

    def edit(self, change: Json) -> int:
        """Edit anything of it; what is waited for next is about this edit or a later one."""
        changed = self.api.patch("agentdeployments", NAME, change)
        self._generation = changed["metadata"]["generation"]
        return self._generation

    def prompt(self, text: str) -> None:
        """A prompt-only change."""
        self.change(agent={"systemPrompt": text})

    def until(
        self, what: str, condition: Callable[[Json], bool], seconds: float = PATIENCE
    ) -> Json:
        """The first version, from where the last wait ended on, that meets the condition.

        Its status is about the newest spec that this story wrote.
        """

        def met(version: Json) -> bool:
            status = version.get("status") or {}
            return status.get("observedGeneration", 0) >= self._generation and condition(version)

        found = self.watch.until(met, self._next, seconds)
        assert found is not None, f"not within {seconds:.0f} s: {what}; last: {self.last()}"
        self._next = found
        return self.watch.seen[found]

    def ready(self) -> Json:
        return self.until("Ready", lambda version: says(version, "Ready") == "True")

    def in_phase(self, name: str, *, started: bool = True) -> Json:
        """Wait until this phase is running, with its traffic in place."""

        def met(version: Json) -> bool:
            progress = version["status"].get("progress") or {}
            here = progress.get("phase", {}).get("name") == name
            return here and (not started or "startedAt" in progress)

        return self.until(f"phase {name}", met)

    def stalled(self, reason: str) -> str:
        """Wait until it is stalled for this reason; the words."""
        version = self.until(
            f"Stalled because {reason}",
            lambda version: (
                says(version, "Stalled") == "True"
                and condition_of(version, "Stalled")["reason"] == reason
            ),
        )
        return str(condition_of(version, "Stalled")["message"])

    def rolled_back(self) -> Json:
        """Wait until it was taken back and the traffic is known to be safe."""
        return self.until(
            "rolled back, and safe",
            lambda version: "safeAt" in version["status"].get("rollback", {}),
        )

    def last(self) -> str:
        """Where things stand, for the message of a failed wait."""
        seen = self.watch.seen
        status = seen[-1].get("status") or {} if seen else {}
        said = {key: status.get(key) for key in ("phase", "step", "message", "traffic")}
        return json.dumps(said)

    def users(self, rps: int = 60, *more: str) -> Users:
        """People begin to use the agent, and go on until the test ends.

        `more`: further options of `lab traffic`.
        """
        record = self.folder / f"users-{uuid.uuid4().hex[:6]}.jsonl"
        record.touch()
        options = (f"--rps={rps}", "--until-stopped", "--quiet", f"--record={record}", *more)
        program = (sys.executable, "-m", "lab.traffic", f"--host={hostname(self.api.namespace)}")
        process = self.stack.enter_context(
            subprocess.Popen(
                self.lab.command([*program, *options]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        self.stack.callback(process.kill)
        return Users(record, process)

    def ask(self, host: str = "", **headers: str) -> httpx.Response:
        """One request through the gateway."""
        return httpx.post(
            f"{self.lab.gateway_url}/v1/chat",
            json={"session": "s", "message": "Where is my order?"},
            headers={"Host": host or hostname(self.api.namespace), **headers},
            trust_env=False,
            timeout=10,
        )

    def act(self, verb: str, revision: str, *, api: Api | None = None, **spec: Any) -> str:
        """A person decides (admin, if nobody else's `api` is given); the action's name.

        Raises Refusal in the words of the API server.
        """
        manifest = {
            "apiVersion": "phasegate.dev/v1alpha1",
            "kind": "RolloutAction",
            "metadata": {"generateName": f"{verb.lower()}-"},
            "spec": {
                **{"agent": NAME, "verb": verb, "revision": revision},
                **{"reason": "because the test says so", "actor": "admin", **spec},
            },
        }
        created = (api or self.api).create("rolloutactions", manifest)
        return str(created["metadata"]["name"])

    def outcome(self, action: str) -> Json:
        """What became of an action: outcome and message."""

        def decided() -> Json | None:
            status: Json = self.api.get("rolloutactions", action).get("status") or {}
            return status if "outcome" in status else None

        return until(f"the outcome of {action}", decided)

    def rollout(self, number: int, phase: str) -> Json:
        """The record of an attempt, once its phase is this one."""

        def ended() -> Json | None:
            found = self.api.find("agentrollouts", f"{NAME}-{number}")
            return found if found and found.get("status", {}).get("phase") == phase else None

        return until(f"AgentRollout {number} {phase}", ended)

    def event(self, reason: str) -> Json:
        """The (first) event of this reason, once it is there."""

        def told() -> Json | None:
            events = [e for e in self.api.list("events") if e["regarding"].get("name") == NAME]
            return next((event for event in events if event["reason"] == reason), None)

        return until(f"the event {reason}", told)


def condition_of(version: Json, type_: str) -> Json:
    """One condition; empty if it is not there."""
    conditions = version.get("status", {}).get("conditions", ())
    return next((dict(c) for c in conditions if c["type"] == type_), {})


def says(version: Json, type_: str) -> str:
    """A condition's status; "" if it is not there."""
    return str(condition_of(version, type_).get("status", ""))


def shares(version: Json) -> dict[str, int]:
    """Percent of the users' requests by revision, as the status has it."""
    return {share["revision"]: share["percent"] for share in version["status"].get("traffic", ())}


def seconds(timestamp: str) -> float:
    """Seconds since the epoch of a timestamp of the API server."""
    return datetime.fromisoformat(timestamp).timestamp()
