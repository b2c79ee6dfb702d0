"""``phasegate plan``: how long each gate will take, and what it will catch, before anything starts."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from phasegate.adapters.access import Access
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.agentdeployment import Progress
from phasegate.api.errors import InvalidSpec, NotFound
from phasegate.api.quantities import parse_duration, parse_percent
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.cli.manifests import Written, read_agent
from phasegate.cli.providers import open_provider
from phasegate.control.addresses import Party
from phasegate.control.kinds import AGENT_DEPLOYMENT, ROLLBACK_POLICY
from phasegate.control.parse import agent_status, explain
from phasegate.control.subject import Subject
from phasegate.control.today import revisions, today
from phasegate.engine.checks import CheckSpec
from phasegate.engine.forecast import CheckForecast, Usual
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.messages import number, stretch
from phasegate.engine.sources import SOURCES
from phasegate.rollout.forecast import PhaseForecast, Traffic, forecast
from phasegate.rollout.judging import default_policy, evidence_plan
from phasegate.rollout.phases import phases_of

_MOST_CALLS: Final = 1e6
"""Calls per second: more is a mistake."""
_MOST: Final = 1e12
"""Of a mean, in any unit."""
_RECENT: Final = 3600.0
"""Seconds in which a revision must have answered to be the one that runs."""


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.argument("agent", type=click.Path(path_type=Path))
@click.option("--policy", type=click.Path(path_type=Path), help="File with the RollbackPolicy.")
@click.option("--rps", type=click.FloatRange(0, _MOST_CALLS), help="Calls of users per second.")
@click.option("--scrape", default="15s", show_default=True, help="With --rps: between two scrapes.")
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="METRIC=VALUE",
    help="With --rps: what a metric is today, such as error-rate=1% or cost-per-call=0.02.",
)
@click.option("--prometheus", help="Read today's traffic from this provider of --config.")
@click.option("--config", type=click.Path(path_type=Path), help="The operator's configuration.")
@click.option("--revision", help="With --prometheus: the revision that runs today.")
@click.option("-n", "--namespace", help="Default: the manifest's.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Look up the policy and the running revision in this cluster.",
)
@click.option("--context", help="Context of the kubeconfig.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table")
def plan(  # noqa: PLR0913, PLR0917 (one argument an option)
    agent: Path,
    policy: Path | None,
    rps: float | None,
    scrape: str,
    bases: Sequence[str],
    prometheus: str | None,
    config: Path | None,
    revision: str | None,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
) -> None:
    """How long each gate takes and what it catches in what time, at a given traffic.

    AGENT is a file with an AgentDeployment, and with its RollbackPolicy if --policy names no other.
    The traffic is --rps, or today's as --prometheus tells.
    """
    if rps is not None and math.isnan(rps):  # it is in every range
        raise click.BadParameter("nan is not a number", param_hint="--rps")
    if (rps is None) == (prometheus is None):
        raise click.UsageError(
            "say how much traffic there is: --rps, or --prometheus with --config"
        )
    written = read_agent(agent, policy, namespace)
    if kubeconfig is not None or context is not None:
        written, running = asyncio.run(_look_up(written, Access(kubeconfig, context)))
        revision = revision or running
    if written.policy is None and written.policy_name is not None:
        raise InvalidSpec(
            f"{agent}: spec.policyRef: RollbackPolicy {written.policy_name} is not in this file; "
            "give its file with --policy, or --kubeconfig to read it from the cluster"
        )
    if rps is not None:
        seconds = parse_duration(scrape).total_seconds()
        traffic = Traffic(rps, max(seconds, 0.1), _assumed(written, bases))
    else:
        traffic = asyncio.run(_measured(written, prometheus or "", config, revision))
    found = forecast(written.spec, written.policy, traffic)
    if output == "json":
        click.echo(json.dumps(_json(written, traffic, found), indent=2))
    else:
        click.echo("\n".join(_table(written, traffic, found)))


# --- what is known -------------------------------------------------------------------------------


async def _look_up(written: Written, access: Access) -> tuple[Written, str | None]:
    """The policy as it is in the cluster, and the revision that is stable there."""
    cluster = await KubernetesCluster.connect(access)
    try:
        running = await _stable(cluster, written)
        if written.policy is None and written.policy_name is not None:
            written = replace(written, policy=await _policy(cluster, written, written.policy_name))
        return written, running
    finally:
        await cluster.close()


async def _stable(cluster: KubernetesCluster, written: Written) -> str | None:
    try:
        live = await cluster.get(AGENT_DEPLOYMENT, written.key.namespace, written.key.name)
    except NotFound:
        return None  # it is about to be created
    return agent_status(live).stable_revision


async def _policy(cluster: KubernetesCluster, written: Written, name: str) -> RollbackPolicySpec:
    found = await cluster.get(ROLLBACK_POLICY, written.key.namespace, name)
    try:
        return RollbackPolicySpec.model_validate(found.get("spec") or {})
    except ValidationError as error:
        raise InvalidSpec(f"RollbackPolicy {name}: {explain(error, 'spec')}") from error


def _checks(written: Written) -> tuple[CheckSpec, ...]:
    """The checks of any phase: they are the same in all."""
    phase = phases_of(written.spec.strategy)[0]
    progress = Progress(phase=phase, entered_at=datetime.now(UTC))
    return evidence_plan(written.spec, written.policy, progress).checks


def _assumed(written: Written, bases: Sequence[str]) -> dict[str, Usual]:
    """What the user says that metrics are like today."""
    checks = {check.metric: check for check in _checks(written)}
    found: dict[str, Usual] = {}
    for base in bases:
        metric, given, text = base.partition("=")
        check = checks.get(metric)
        if not given or check is None:
            raise click.BadParameter(
                f"{base!r}: write METRIC=VALUE with a metric of the policy: {', '.join(checks)}",
                param_hint="--base",
            )
        found[metric] = _usual(check, text)
    return found


def _usual(check: CheckSpec, text: str) -> Usual:
    match check:
        case RatioCheck():
            share = parse_percent(text)
            good = check.good is not None and check.deadline is None
            return Usual(rate=1 - share if good else share)
        case MeanCheck():
            try:
                mean = float(text)
            except ValueError:
                mean = math.nan
            if not 0 <= mean <= (check.top or _MOST):
                most = "" if check.top is None else f" to {check.top:g}"
                words = f"{text!r} is not a number from 0{most}"
                raise InvalidSpec(f"--base {check.metric}: {words}")
            return Usual(mean=mean)
        case QuantileCheck():
            words = (
                "a quantile needs the whole histogram: leave it out, or read it with --prometheus"
            )
            raise InvalidSpec(f"--base {check.metric}: {words}")
        case _:
            raise InvalidSpec(f"--base {check.metric}: nothing about it has to be known")


async def _measured(
    written: Written, name: str, config: Path | None, revision: str | None
) -> Traffic:
    """Today's traffic, from the provider."""
    now = time.time()
    policy = written.policy or default_policy(written.spec)
    phase = phases_of(written.spec.strategy)[0]
    plan = evidence_plan(
        written.spec, policy, Progress(phase=phase, entered_at=datetime.fromtimestamp(now, UTC))
    )
    async with open_provider(name, config) as provider:
        if revision is None:
            source = SOURCES[policy.source]
            found = await revisions(provider, source, written.key, now - _RECENT, now)
            revision = max(found, key=lambda r: found[r], default=None)
            if revision is None or not found[revision]:
                raise InvalidSpec(
                    f"{written.key.namespace}/{written.key.name} has answered no call in the last "
                    f"{stretch(_RECENT)}: use --rps, or name the revision that runs with --revision"
                )
        party = Party(written.key, "", revision, "live", slots=(revision, revision))
        return await today(Subject("", party, name, policy.source, plan), provider, now)


# --- what is said --------------------------------------------------------------------------------


def _table(written: Written, traffic: Traffic, found: Sequence[PhaseForecast]) -> Iterator[str]:
    yield (
        f"{written.key.namespace}/{written.key.name}: {number(traffic.calls)} calls/s of users, "
        f"scraped every {stretch(traffic.scrape_seconds)}"
    )
    for phase in found:
        yield ""
        yield phase.line.partition("; catches")[0] + f" ({number(phase.candidate)} calls/s)"
        rows = [_row(check) for check in phase.checks if check.catches or not check.never]
        if rows:
            yield from _columns([("CHECK", "LEVEL", "PASS", "9 OF 10", "FINDS, AFTER"), *rows])
        yield from (f"  cannot decide: {c.check}: {c.never}" for c in phase.checks if c.never)
    notes = dict.fromkeys(f"{c.check}: {note}" for p in found for c in p.checks for note in c.notes)
    yield ""
    yield from (f"note: {note}" for note in notes)


def _row(check: CheckForecast) -> tuple[str, ...]:
    catches = ", ".join(
        f"{c.what}: {'not by this' if c.seconds is None else stretch(c.seconds)}"
        for c in check.catches
    )
    if check.passes is None:
        return check.check, check.level, "never" if check.never else "-", "-", catches
    usual, slow = stretch(check.passes.usual), stretch(check.passes.slow)
    return check.check, check.level, usual, slow, catches


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _json(written: Written, traffic: Traffic, found: Sequence[PhaseForecast]) -> dict[str, Any]:
    """Times in seconds, calls per second."""
    return {
        "agent": f"{written.key.namespace}/{written.key.name}",
        "callsPerSecond": traffic.calls,
        "scrapeSeconds": traffic.scrape_seconds,
        "phases": [
            {
                "name": phase.phase.name,
                "line": phase.line,
                "candidateCallsPerSecond": phase.candidate,
                "baselineCallsPerSecond": phase.baseline,
                "minSeconds": phase.min_seconds,
                "passes": None if (wait := phase.passes) is None else asdict(wait),
                "never": list(phase.never),
                "checks": [asdict(check) for check in phase.checks],
            }
            for phase in found
        ],
    }
