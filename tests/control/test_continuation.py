"""A new process comes to the verdicts that the old one would have come to, at the same samples."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from phasegate.api import agentdeployment
from phasegate.control.sampler import LIVE
from phasegate.engine.verdict import Judgement, Verdict

from tests.control.sampling import EVERY_KIND, Agents, Sampling, at, seconds
from tests.control.world import FakeProvider

CANARY = agentdeployment.Phase(
    name="canary-20", type="Canary", weight=20, min_duration="120s", min_samples=20
)
SECONDS = 300


async def observe(
    seed: int, bad: float, restarts: dict[int, int], depth: int
) -> tuple[dict[int, Judgement], Sampling]:
    """Judgements by second; a process that ends at a second comes back after a while.

    `restarts`: seconds of absence by the second at which the process ends.
    """
    provider = FakeProvider()
    provider.values = lambda now: 150.0 if at(depth) <= now < at(depth + 40) else 50.0
    agents = Agents(provider, seed, bad=bad)
    sampling = Sampling(EVERY_KIND, CANARY, provider)
    judgements: dict[int, Judgement] = {}
    absent = 0
    for second in seconds(SECONDS):
        await sampling.clock.advance(1)
        agents.serve(at(second))
        if absent:
            absent -= 1
            if not absent:
                sampling.start()
            continue
        judgement = await sampling.look()
        if judgement is not None:
            judgements[second] = judgement
        absent = restarts.get(second, 0)
    return judgements, sampling


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    seed=st.integers(0, 10**6),
    bad=st.sampled_from([0.02, 0.1, 0.6]),
    depth=st.integers(30, 240),
    restarts=st.dictionaries(st.integers(2, 150), st.integers(1, 130), max_size=3),
)
async def test_a_restart_changes_no_verdict(
    seed: int, bad: float, depth: int, restarts: dict[int, int]
) -> None:
    never, _ = await observe(seed, bad, {}, depth)
    again, _ = await observe(seed, bad, restarts, depth)
    assert len(again) > 20
    assert SECONDS in again
    for second, judgement in again.items():
        assert gist(judgement) == gist(never[second]), second
        # Answers to queries come later than samples: who reads both at once may see more fail.
        assert failed(never[second]) <= failed(judgement), second


def gist(judgement: Judgement) -> object:
    """All of it; of a Fail what is final: the sample at which it was proven."""
    if judgement.verdict != Verdict.FAIL:
        return judgement
    return judgement.reason, judgement.at


def failed(judgement: Judgement) -> set[str]:
    return {check.check for check in judgement.checks if check.verdict == Verdict.FAIL}


async def test_what_continues_is_the_checkpoint_and_not_the_whole_phase() -> None:
    _, sampling = await observe(1, 0.02, {200: 5}, 400)
    assert sampling.checkpoint is not None
    sampling.start()
    assert sampling.attempt.read_until >= sampling.checkpoint.at.timestamp()
    assert sampling.attempt.read_until > at(SECONDS) - 2 * LIVE


async def test_the_threshold_that_was_crossed_while_nobody_looked_is_seen() -> None:
    judgements, _ = await observe(3, 0.02, {100: 120}, depth=120)
    assert judgements[SECONDS].verdict == Verdict.FAIL
    (depth,) = [c for c in judgements[SECONDS].checks if c.check == "depth"]
    assert depth.verdict == Verdict.FAIL
    assert depth.since is not None
    assert at(120) <= depth.since <= at(125)
