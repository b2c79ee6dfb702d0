"""What a provider can do wrong, on a real socket: the outcome of each, and how it ends.

None of it is ever a Pass or a Fail, and none of it moves traffic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import pytest
from phasegate.adapters.prometheus import Limits
from phasegate.engine.verdict import Reason, Verdict

from tests.control.prometheus_server import Answer, Fault, PrometheusServer, ServedWorld, served
from tests.control.test_loop import NEW, policy
from tests.control.world import KEY

LIMITS: Final = Limits(deadline=10.0, max_series=40, max_bytes=2_000_000)
IMPATIENT: Final = Limits(deadline=0.05)


def says(text: str, status: str = "200 OK") -> Fault:
    return lambda server, truth: server.http(text.encode(), status)


def changed(change: Any) -> Fault:
    """The truth with its series changed."""

    def fault(server: PrometheusServer, truth: Answer) -> bytes:
        change(truth["data"]["result"])
        return server.http(json.dumps(truth).encode())

    return fault


def with_values(value: str) -> Fault:
    def change(series: list[dict[str, Any]]) -> None:
        for one in series:
            one["values"] = [[at, value] for at, _ in one["values"]]

    return changed(change)


def ten_times(series: list[dict[str, Any]]) -> None:
    for one in list(series):
        for user in range(20):
            series.append({**one, "metric": one["metric"] | {"user": str(user)}})


def frozen(series: list[dict[str, Any]]) -> None:
    for one in series:
        one["values"] = [[at - 400, value] for at, value in one["values"]]


def truncated_body(server: PrometheusServer, truth: Answer) -> bytes:
    body = json.dumps(truth).encode()
    return server.http(body[: len(body) // 2], length=len(body))


def truncated_json(server: PrometheusServer, truth: Answer) -> bytes:
    body = json.dumps(truth).encode()
    return server.http(body[: len(body) // 2])


def warned(server: PrometheusServer, truth: Answer) -> bytes:
    return server.http(json.dumps(truth | {"warnings": ["partial response"]}).encode())


FAULTS: Final[Mapping[str, tuple[Fault, str]]] = MappingProxyType(
    {
        "429": (says("slow down", "429 Too Many Requests"), "HTTP 429"),
        "500": (says("oops", "500 Internal Server Error"), "HTTP 500"),
        "503": (says('{"status":"error","errorType":"timeout"}', "503 x"), "HTTP 503 (timeout)"),
        "422": (says('{"status":"error","errorType":"execution"}', "422 x"), "HTTP 422 (execution)"),
        "closes without a word": (lambda server, truth: b"", "not reachable"),
        "speaks no HTTP": (lambda server, truth: b"SSH-2.0-x\r\n\r\n", "not reachable"),
        "body is cut off": (truncated_body, "not reachable"),
        "JSON is cut off": (truncated_json, "the answer is not JSON"),
        "malformed JSON": (says("<html>502 Bad Gateway</html>"), "the answer is not JSON"),
        "other JSON": (says('{"hello": []}'), "not that of a Prometheus API"),
        "scalar": (
            says('{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}'),
            "the answer is no matrix",
        ),
        "warnings": (warned, "not whole"),
        "duplicate series": (changed(lambda s: s.extend(list(s))), "names a series twice"),
        "ten times the series": (changed(ten_times), "more than 40 series"),
        "a huge answer": (says("[" + "1," * 1_200_000 + "1]"), "longer than 2000000 bytes"),
        "empty vector": (changed(lambda series: series.clear()), "no sample of the candidate"),
        "NaN": (with_values("NaN"), "no sample of the candidate"),
        "Inf": (with_values("+Inf"), "no sample of the candidate"),
        "stale samples": (changed(frozen), "no sample of the candidate"),
    }
)  # fmt: skip


async def canary(world: ServedWorld) -> None:
    """A healthy candidate with a fifth of the users, under a policy that pauses soon."""
    world.cluster.put(policy({"name": "error-rate", "rollback": {"above": "5%"}}, onNoData=NO_DATA))
    await world.stable()
    world.apply(agent=NEW, policyRef={"name": "strict"})
    await world.until_phase("Canary")
    await world.run(5)


NO_DATA: Final = {"hold": "150s", "then": "Pause"}


async def held(world: ServedWorld, words: str) -> None:
    """Nothing moves for as long as it lasts; it is said why, and alerted once."""
    plan = world.router.plan
    await world.run(125)
    judgement = world.store.judgement(KEY)
    assert judgement is not None
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, Reason.NO_DATA)
    assert words in judgement.message
    await world.run(60)
    assert world.condition("Progressing")["reason"] == "PausedWithoutData"
    assert words in world.status["message"]
    await world.run(20)
    alerts = [a for a in world.recorder.announced if a.reason == "PausedWithoutData"]
    assert len(alerts) == 1
    assert world.router.plan == plan
    assert world.status["phase"] == "Canary"
    assert "bug" not in world.results


async def resumed(world: ServedWorld) -> None:
    """It goes on by itself."""
    await world.run(15)
    judgement = world.store.judgement(KEY)
    assert judgement is not None
    assert judgement.reason != Reason.NO_DATA
    await world.until_phase("Full")
    assert not [a for a in world.recorder.announced if a.reason == "RolledBack"]


@pytest.mark.parametrize("name", FAULTS)
async def test_it_holds_says_why_and_goes_on_by_itself(name: str) -> None:
    fault, words = FAULTS[name]
    async with served(LIMITS) as world:
        await canary(world)
        world.server.fault = fault
        await held(world, words)
        world.server.fault = None
        await resumed(world)


async def test_an_answer_that_never_comes() -> None:
    async with served(LIMITS) as world:
        await canary(world)
        world.server.fault = lambda server, truth: None
        world.asking._limits = IMPATIENT
        await held(world, "no answer within 0.05 s")
        world.server.fault, world.asking._limits = None, LIMITS
        await resumed(world)


async def test_connections_are_refused() -> None:
    async with served(LIMITS) as world:
        await canary(world)
        await world.server.stop()
        await held(world, "not reachable")
        await world.server.start()
        await resumed(world)


@pytest.mark.parametrize(("skew", "side"), [(300.0, "ahead of"), (-300.0, "behind")])
async def test_clocks_that_differ_by_five_minutes(skew: float, side: str) -> None:
    async with served(LIMITS) as world:
        await canary(world)
        world.server.skew = skew
        await held(world, f"its clock is 300 s {side} the operator's")
        world.server.skew = 0.0
        await resumed(world)


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (300.0, "samples are 300 s ahead of the operator's clock"),
        (-300.0, "no sample of the candidate"),
    ],
)
async def test_samples_of_another_time_behind_a_clock_that_is_right(
    skew: float, words: str
) -> None:
    async with served(LIMITS) as world:
        await canary(world)
        world.server.skew, world.server.dated = skew, False
        await held(world, words)
        world.server.skew = 0.0
        await resumed(world)


async def test_a_counter_that_falls_is_a_restart_not_a_failure() -> None:
    async with served(LIMITS) as world:
        await canary(world)
        for _ in range(5):
            for samples in world.provider.series.values():
                at, _ = samples[-1]
                samples[-1] = (at, 0.0)
            await world.run(5)
            judgement = world.store.judgement(KEY)
            assert judgement is not None
            assert judgement.verdict != Verdict.FAIL
        await world.until_phase("Full")
