"""``phasegate judge``: the decision engine over JSON lines, one phase per process."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from phasegate.api.errors import PhasegateError
from phasegate.engine.amounts import Amount
from phasegate.engine.checks import CheckSpec
from phasegate.engine.dispersion import dispersion
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import Verdict

_NOT_UNDERSTOOD = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    RecursionError,  # brackets in brackets
)


class BadInput(PhasegateError):
    """A line of input is not of the protocol."""


@click.command()
def judge() -> None:
    r"""Judge one phase: a JSON object per line in, a verdict per line out.

    \b
    in   {"op": "start", "phase": {"alpha", "beta", "plannedSeconds", "minSeconds",
          "staleSeconds", "checks": […]}, "history": {check: [[calls, bad], …]}}
    in   {"op": "scrape", "t": seconds, "candidate": {"counter|pod": value}, "baseline": {…}}
    out  {"verdict": "Pass|Fail|Inconclusive", "message": "one sentence with the numbers"}

    Values are raw cumulative counters, null is NaN. A histogram's buckets are the counters
    "<histogram>:0", "<histogram>:1", …, each for itself, up to the edges that its check lists.
    """
    evidence: Evidence | None = None
    edges: Mapping[str, list[float]] = {}
    for line in sys.stdin:
        asked = _read(line)
        if isinstance(asked, _Start):
            evidence, edges = asked.evidence, asked.edges
            _answer(Verdict.INCONCLUSIVE, "")
            continue
        if evidence is None:
            raise BadInput("a scrape came before the start: nothing is judged yet")
        evidence.ingest(_scraped(asked, edges, line))
        judged = evidence.judge(asked.at)
        _answer(judged.verdict, judged.message)


@dataclass(frozen=True, slots=True)
class _Start:
    evidence: Evidence
    edges: Mapping[str, list[float]]
    """By histogram."""


@dataclass(frozen=True, slots=True)
class _Scrape:
    at: float
    arms: Mapping[Arm, Mapping[str, float | None]]


def _read(line: str) -> _Start | _Scrape:
    """A line of the protocol; BadInput for anything else."""
    with _understood(line):
        asked = json.loads(line)
        match asked["op"]:
            case "start":
                edges = {
                    c["histogram"]: c["edges"] for c in asked["phase"]["checks"] if "edges" in c
                }
                # Numbers that make no sense together show when evidence is made from them.
                return _Start(Evidence(_plan(asked["phase"], asked.get("history", {}))), edges)
            case "scrape":
                arms: dict[Arm, Mapping[str, float | None]] = {
                    "candidate": asked["candidate"],
                    "baseline": asked["baseline"],
                }
                return _Scrape(float(asked["t"]), arms)
            case other:
                raise ValueError(f"op {other!r} is neither start nor scrape")


def _scraped(asked: _Scrape, edges: Mapping[str, list[float]], line: str) -> list[Series]:
    with _understood(line):
        return [
            s for arm, values in asked.arms.items() for s in _series(arm, asked.at, values, edges)
        ]


@contextmanager
def _understood(line: str) -> Iterator[None]:
    try:
        yield
    except _NOT_UNDERSTOOD as error:
        words = f"{type(error).__name__}: {error}"
        raise BadInput(f"not of the protocol ({words}): {line.strip()[:200]}") from error


def _answer(verdict: Verdict, message: str) -> None:
    click.echo(json.dumps({"verdict": str(verdict), "message": message}))


def _plan(phase: Mapping[str, Any], history: Mapping[str, Any]) -> EvidencePlan:
    checks = phase["checks"]
    return EvidencePlan(
        phase="phase",
        start=0.0,
        planned_seconds=phase["plannedSeconds"],
        alpha=phase["alpha"],
        beta=phase["beta"],
        min_samples=min((c["minSamples"] for c in checks if "minSamples" in c), default=50),
        min_seconds=phase["minSeconds"],
        stale_seconds=phase["staleSeconds"],
        checks=tuple(map(_check, checks)),
        volume=Selector(_volume(checks)),
        dispersion=tuple((name, dispersion(blocks)) for name, blocks in history.items()),
    )


def _volume(checks: Iterable[Mapping[str, Any]]) -> str:
    """The counter of calls: the first total that a check names."""
    totals = [str(check["total"]) for check in checks if "total" in check]
    if not totals:
        raise ValueError("no check names a total, so calls cannot be counted")
    return totals[0]


def _check(spec: Mapping[str, Any]) -> CheckSpec:
    name = spec["name"]
    match spec["kind"]:
        case "event":
            return EventCheck(name, name, Selector(spec["counter"]))
        case "ratio":
            return _ratio(name, spec)
        case "quantile":
            return QuantileCheck(
                name,
                name,
                Selector(spec["histogram"]),
                spec["q"],
                limit=_limit(spec),
                relative=_relative(spec, 2.0),
                min_samples=spec.get("minSamples"),
            )
        case "mean":
            return _mean(name, spec)
        case other:
            raise ValueError(f"unknown kind {other!r}")


def _ratio(name: str, spec: Mapping[str, Any]) -> RatioCheck:
    limit = _limit(spec)
    return RatioCheck(
        name,
        name,
        total=Selector(spec["total"]),
        bad=Selector(spec["bad"]),
        limit=limit,
        gate=Bound(spec["gate"], above=False) if "gate" in spec else None,
        severe=None if limit is None else spec.get("severe", 0.5),
        relative=_relative(spec, 2.0),
        min_samples=spec.get("minSamples"),
    )


def _mean(name: str, spec: Mapping[str, Any]) -> MeanCheck:
    up = spec["direction"] == "up"
    limit = spec["relative"]["limit"]
    return MeanCheck(
        name,
        name,
        sum=Amount.of(Selector(spec["sum"])),
        count=Amount.of(Selector(spec["count"])),
        worse="above" if up else "below",
        top=None if up else 1.0,
        relative=_relative(spec, limit * 4 / 3 if up else 1 - 2 * (1 - limit)),
        min_samples=spec.get("minSamples"),
    )


def _limit(spec: Mapping[str, Any]) -> Bound | None:
    if "limit" not in spec:
        return None
    return Bound(spec["limit"], above=True, window=spec.get("window"))


def _relative(spec: Mapping[str, Any], excluded: float) -> Relative | None:
    given = spec.get("relative")
    if given is None:
        return None
    return Relative(given["limit"], given["tolerate"], given.get("rollback", excluded))


def _series(
    arm: Arm, at: float, values: Mapping[str, float | None], edges: Mapping[str, list[float]]
) -> Iterable[Series]:
    """One scrape of an arm; buckets become cumulative ones, as an exporter writes them."""
    buckets: dict[tuple[str, str], dict[int, float]] = {}
    for key, value in values.items():
        name, _, pod = key.partition("|")
        number = math.nan if value is None else float(value)
        histogram, _, index = name.partition(":")
        if histogram in edges and index:
            buckets.setdefault((histogram, pod), {})[int(index)] = number
        else:
            yield Series(arm, name, (("pod", pod),), ((at, number),))
    for (histogram, pod), counts in buckets.items():
        total = 0.0
        for position, edge in enumerate([*edges[histogram], math.inf]):
            total += counts.get(position, 0.0)
            labels = (("le", "+Inf" if math.isinf(edge) else f"{edge:g}"), ("pod", pod))
            yield Series(arm, f"{histogram}_bucket", labels, ((at, total),))
