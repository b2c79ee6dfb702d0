"""`python -m lab.demo.play`: the play itself; runs inside the lab, started by `python -m lab.demo`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lab.cluster.operator import kubectl as kubectl_binary
from lab.demo.acts import (
    ACTS,
    AGENT,
    HOST,
    MANIFESTS,
    NAMESPACE,
    PATIENCE_S,
    RPS,
    Act,
    problems,
)
from lab.demo.audience import audience
from lab.demo.epilogue import Result, epilogue
from lab.demo.scene import read_agent
from lab.demo.show import FRAMES_PER_S, Show, show
from lab.demo.stage import Stage
from lab.errors import LabError
from lab.handle import Lab
from lab.node.client import ApiClient, load_kubeconfig

_API = f"/apis/phasegate.dev/v1alpha1/namespaces/{NAMESPACE}"
_EVENTS = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
_READ_S = 2.5
"""How long a caption of one line takes to be read."""
_AFTERWARDS_S = 3.0
"""How long after an act's end is looked whether it stays so: longer than acts.SAFE_S."""


class Play:
    """Directs: changes the agent with kubectl, waits for what becomes of it, checks the end."""

    def __init__(self, stage: Stage, api: ApiClient, stats: Path) -> None:
        self._stage = stage
        self._api = api
        self._stats = stats
        self.results: list[Result] = []

    async def run(self) -> None:
        """All acts. Raises LabError where the play cannot go on."""
        await self._curtain()
        async with audience(RPS, HOST, self._stats, self._stage.see_users):
            stage = self._stage
            await stage.until(
                "the first answer", lambda: stage.users.count(stage.agent.stable) > 0, 30
            )
            stage.caption = (
                f"{RPS:.0f} requests a second through a real gateway, all answered by v1."
            )
            await asyncio.sleep(_READ_S)
            for act in ACTS:
                self.results.append(await self._perform(act))

    async def _curtain(self) -> None:
        stage = self._stage
        stage.caption = (
            "A policy says what is not acceptable; an agent deployment says what should run."
        )
        await self._kubectl("create", "namespace", NAMESPACE)
        await self._kubectl("apply", "-f", "policy.yaml", "-f", "agent.yaml")
        await stage.until("the first revision to serve", lambda: stage.agent.ready, PATIENCE_S)
        if stage.agent.stable is not None:
            stage.names[stage.agent.stable] = "v1"
        stage.caption = "The first revision has nobody to protect users from: it serves at once."

    async def _perform(self, act: Act) -> Result:
        stage = self._stage
        before = stage.agent.stable
        stage.open(act)
        await asyncio.sleep(_READ_S)
        began = time.monotonic()
        patch = ("patch", "agentdep", AGENT, "--type", "merge", "--patch-file", act.change)
        await self._kubectl(*patch)
        await stage.until(f"{act.name} to be tried", lambda: stage.revision is not None, PATIENCE_S)
        await stage.until(f"the end of {act.name}", lambda: stage.scene().ended, PATIENCE_S)
        took = time.monotonic() - began
        stage.caption = act.ending
        await asyncio.sleep(_AFTERWARDS_S)
        found = await self._check(act, before)
        for problem in found:
            stage.say("NOT AS IT MUST BE", problem, "warning")
        return Result(act, stage.revision or "", took, tuple(found), stage.agent.rollback)

    async def _check(self, act: Act, before: str | None) -> list[str]:
        """Look at the API server afresh: not at what the watches said."""
        agent = read_agent(await self._api.get(f"{_API}/agentdeployments/{AGENT}"))
        record = await self._api.get(f"{_API}/agentrollouts/{agent.rollout}")
        return problems(act, before, agent, record, self._stage.users)

    async def _kubectl(self, *arguments: str) -> None:
        """Run kubectl as anybody would. Raises LabError in its words."""
        self._stage.say("$", f"kubectl {' '.join(arguments)}", "command")
        process = await asyncio.create_subprocess_exec(
            *(kubectl_binary(), "--namespace", NAMESPACE, *arguments),
            cwd=MANIFESTS,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        words, _ = await process.communicate()
        if process.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments)} failed:\n{words.decode().strip()}")


@contextlib.asynccontextmanager
async def _background(*jobs: Any) -> AsyncIterator[None]:
    """Run coroutines beside the block; one that fails ends it with its error."""
    owner = asyncio.current_task()
    tasks = [asyncio.create_task(job) for job in jobs]

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and owner is not None:
            owner.cancel()

    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def _follow(api: ApiClient, path: str, see: Callable[[dict[str, Any]], None]) -> None:
    async for change in api.follow(path):
        if change.kind != "DELETED":
            for item in change.objects:
                see(item)


async def _draw(stage: Stage, screen: Show) -> None:
    while True:
        screen.update(stage.scene())
        await asyncio.sleep(1 / FRAMES_PER_S)


def _end_with_input() -> None:
    """Interrupt this program when its standard input ends."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            signal.raise_signal(signal.SIGINT)

    loop.add_reader(descriptor, read)


async def play(began: float, plain: bool, lifeline: bool) -> int:
    """Run the play and print what came of it; the exit code."""
    if lifeline:
        _end_with_input()
    lab = Lab.current()
    console = Console(highlight=False)
    stage = Stage(began, "the first one")
    async with ApiClient(load_kubeconfig(Path(os.environ["KUBECONFIG"]))) as api:
        director = Play(stage, api, lab.state.tmp / "demo-users.json")
        failure: LabError | None = None
        with show(console, plain) as screen:
            agents = _follow(api, f"{_API}/agentdeployments", stage.see_agent)
            events = _follow(api, _EVENTS, stage.see_event)
            try:
                async with _background(agents, events, _draw(stage, screen)):
                    await director.run()
            except LabError as error:
                failure = error
            screen.update(stage.scene())
    epilogue(console, stage, director.results, time.time() - began)
    if failure is not None:
        console.print(f"demo: {failure}", style="bold red", markup=False)
    well = failure is None and len(director.results) == len(ACTS)
    return 0 if well and not any(result.problems for result in director.results) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the play; 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo.play")
    parser.add_argument("--began", type=float, default=time.time())
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input does")
    options = parser.parse_args(argv)
    try:
        return asyncio.run(play(options.began, options.plain, options.lifeline))
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
