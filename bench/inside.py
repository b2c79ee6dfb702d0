"""`python -m bench.inside`: repetitions of a rollback; runs inside the lab, started by main_job."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.probe import IDLE_WEIGHT, Prometheus, Routes, Samples, Usage, answers, usage, weight
from lab.errors import LabError
from lab.handle import Lab
from lab.node.client import MERGE_PATCH, ApiClient, load_kubeconfig

NAMESPACE, AGENT, HOST = "bench", "bench", "bench.example.com"
LIMIT = 0.05
HEALTHY_S = 5.0
"""How long a candidate serves half of the users before it is made to fail."""
SETTLE_S = 1.5
"""How long after the route write answers of the candidate are still looked for."""
IDLE_S, IDLES = 10.0, 3
_STEP_S = 90.0
_API = f"/apis/phasegate.dev/v1alpha1/namespaces/{NAMESPACE}"
_MANIFESTS = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Repetition:
    """Times of one rollback, in seconds since the epoch; None where nothing was seen."""

    flipped: float
    first_bad_scraped: float | None
    first_bad: float | None
    breach: float | None
    newest: float | None
    """When the last sample before the route write became visible: the one that convinced."""
    written: float
    last_answer: float
    sent_after_write: int
    looks: int
    watched_s: float


@dataclass(frozen=True)
class ByHand:
    """Times of one rollback by a person, in seconds since the epoch."""

    sent: float
    """When the request that creates the RolloutAction was sent: it exists a little later."""
    written: float
    last_answer: float


class Bench:
    """Repeats: a new revision gets half of the users, fails, is taken back. Then a person does it."""

    def __init__(self, lab: Lab, api: ApiClient, session: aiohttp.ClientSession) -> None:
        self._lab = lab
        self._api = api
        self._session = session
        self._prometheus = Prometheus(lab.prometheus_url, session)
        self._routes = Routes()
        self._record = lab.state.tmp / "bench-users.jsonl"

    async def run(self, repetitions: int, until: float, rps: float) -> dict[str, Any]:
        """All of it; stops early at `until` (seconds since the epoch). The raw results."""
        self._lab.kubectl("create", "namespace", NAMESPACE)
        self._lab.kubectl("apply", "-n", NAMESPACE, "-f", str(_MANIFESTS))
        await self._until("the first revision to serve", _ready)
        following = asyncio.create_task(self._routes.follow(self._api, NAMESPACE))
        try:
            async with self._traffic(rps):
                idle = [await self._later(0.0), *[await self._later(IDLE_S) for _ in range(IDLES)]]
                done: list[Repetition] = []
                busy = [self._usage()]
                while len(done) < repetitions and time.time() < until:
                    done.append(await self._repetition(len(done) + 1))
                    busy.append(self._usage())
                    _tell(len(done), repetitions, done[-1])
                acts: list[ByHand] = []
                while len(acts) < repetitions and time.time() < until:
                    acts.append(await self._by_hand(len(acts) + 1))
        finally:
            following.cancel()
        return {
            "repetitions": [asdict(item) for item in done],
            "by_hand": [asdict(item) for item in acts],
            "idle": [asdict(item) for item in idle],
            "busy": [asdict(item) for item in busy],
        }

    async def _repetition(self, number: int) -> Repetition:
        revision = await self._candidate(f"Attempt {number}.")
        await asyncio.sleep(HEALTHY_S)
        return await self._measure(revision)

    async def _by_hand(self, number: int) -> ByHand:
        """A healthy candidate is taken back by one RolloutAction."""
        revision = await self._candidate(f"Taken back by hand, {number}.")
        named = {"agent": AGENT, "verb": "Rollback", "revision": revision}
        action = {
            "apiVersion": "phasegate.dev/v1alpha1",
            "kind": "RolloutAction",
            "metadata": {"name": f"by-hand-{number}"},
            "spec": {**named, "reason": "measuring", "actor": "admin"},
        }
        service = f"{AGENT}-{revision}"
        async with asyncio.timeout(_STEP_S):
            sent = time.time()
            await self._api.request("POST", f"{_API}/rolloutactions", action)
            written = await self._routes.until(
                lambda route: weight(route, service) <= IDLE_WEIGHT, sent
            )
        await asyncio.sleep(SETTLE_S)
        got = await asyncio.to_thread(answers, self._record, revision, written)
        await self._until("the rollback's record", _rolled_back(revision))
        return ByHand(sent, written, got.last_done)

    async def _candidate(self, words: str) -> str:
        """A new revision with half of the users; its hash."""
        prompt = {"systemPrompt": f"You are the support agent. {words}"}
        before = (await self._status()).get("candidateRevision")
        path = f"{_API}/agentdeployments/{AGENT}"
        patched = await self._api.request("PATCH", path, {"spec": {"agent": prompt}}, MERGE_PATCH)
        generation = patched["metadata"]["generation"]

        def serving(item: dict[str, Any]) -> bool:
            status = item.get("status", {})
            fresh = status.get("observedGeneration", 0) >= generation
            begun = (status.get("progress") or {}).get("startedAt")
            return fresh and begun is not None and status.get("candidateRevision") != before

        status = (await self._until("the candidate to get its users", serving))["status"]
        return str(status["candidateRevision"])

    async def _measure(self, revision: str) -> Repetition:
        seen = Samples()
        service = f"{AGENT}-{revision}"
        begun = time.time()
        watching = asyncio.create_task(self._prometheus.watch(AGENT, revision, seen, LIMIT))
        try:
            async with asyncio.timeout(_STEP_S):
                await seen.looked.wait()
                flipped = await self._flip(revision)
                seen.arm(flipped)
                written = await self._routes.until(
                    lambda route: weight(route, service) <= IDLE_WEIGHT, flipped
                )
            newest, breach = seen.newest, seen.breach
        finally:
            watching.cancel()
        await asyncio.sleep(SETTLE_S)
        got = await asyncio.to_thread(answers, self._record, revision, written)
        await self._until("the rollback's record", _rolled_back(revision))
        return Repetition(
            flipped=flipped,
            first_bad_scraped=seen.first_bad_scraped,
            first_bad=seen.first_bad,
            breach=breach,
            newest=newest,
            written=written,
            last_answer=got.last_done,
            sent_after_write=got.sent_after,
            looks=seen.looks,
            watched_s=written - begun,
        )

    async def _flip(self, revision: str) -> float:
        """Make every pod of the candidate fail from now on; when that was done."""
        selector = f"phasegate.dev/agent={AGENT},phasegate.dev/revision={revision}"
        pods = await self._api.request(
            "GET", f"/api/v1/namespaces/{NAMESPACE}/pods", params={"labelSelector": selector}
        )
        for pod in pods["items"]:
            url = f"http://{pod['status']['podIP']}:8080/fault"
            async with self._session.post(url, json={"ERROR_RATE": "1"}) as answer:
                if answer.status != 200:
                    raise LabError(f"{url} answered {answer.status}: {await answer.text()}")
        return time.time()

    async def _status(self) -> dict[str, Any]:
        item = await self._api.get(f"{_API}/agentdeployments/{AGENT}")
        return dict(item.get("status", {}))

    async def _until(self, what: str, check: Any) -> dict[str, Any]:
        """Follow the agent until `check` holds. Raises LabError with what it says otherwise."""
        item: dict[str, Any] = {}
        try:
            async with asyncio.timeout(_STEP_S):
                async for change in self._api.follow(f"{_API}/agentdeployments"):
                    for item in change.objects:
                        if check(item):
                            return item
        except TimeoutError:
            pass
        says = item.get("status", {}).get("message", "nothing")
        raise LabError(
            f"Gave up after {_STEP_S:.0f} s of waiting for {what}; the agent says: {says}"
        )

    @contextlib.asynccontextmanager
    async def _traffic(self, rps: float) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lab.traffic", "--until-stopped", "--quiet", "--json"),
            *(f"--rps={rps}", f"--host={HOST}", f"--record={self._record}"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    def _usage(self) -> Usage:
        parts = {part["part"]: part for part in self._lab.status()["parts"]}
        return usage(int(parts["operator"]["pid"]))

    async def _later(self, seconds: float) -> Usage:
        await asyncio.sleep(seconds)
        return self._usage()


def _ready(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _rolled_back(revision: str) -> Any:
    def check(item: dict[str, Any]) -> bool:
        rollback = item.get("status", {}).get("rollback") or {}
        return rollback.get("revision") == revision and rollback.get("safeAt") is not None

    return check


def _tell(number: int, of: int, repetition: Repetition) -> None:
    since = repetition.first_bad or repetition.written
    print(
        f"bench: {number}/{of}: first bad sample → route {repetition.written - since:.3f} s, "
        f"→ last answer {repetition.last_answer - since:.3f} s",
        file=sys.stderr,
        flush=True,
    )


async def measure(repetitions: int, until: float, rps: float) -> dict[str, Any]:
    """Run the benchmark in the lab around this process."""
    lab = Lab.current()
    async with (
        ApiClient(load_kubeconfig(lab.kubeconfig)) as api,
        aiohttp.ClientSession() as session,
    ):
        return await Bench(lab, api, session).run(repetitions, until, rps)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the raw results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.inside")
    parser.add_argument("--repetitions", type=int, required=True)
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--rps", type=float, required=True)
    options = parser.parse_args(argv)
    try:
        found = asyncio.run(measure(options.repetitions, options.until, options.rps))
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
