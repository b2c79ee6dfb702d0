"""``phasegate backtest``: a whole policy over history, judged by the code that judges live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from phasegate.api.agentdeployment import Phase
from phasegate.api.errors import InvalidSpec
from phasegate.api.quantities import format_duration
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.cli.manifests import read_policy
from phasegate.cli.providers import open_provider
from phasegate.control.addresses import Party, lasting
from phasegate.control.backtest import Backtest, Look, Turn
from phasegate.control.backtest import backtest as replayed
from phasegate.control.parse import explain
from phasegate.control.ports import Key, MetricsProvider
from phasegate.control.subject import Subject
from phasegate.control.today import revisions
from phasegate.engine.compiling import Context
from phasegate.engine.evidence import LOOKBACK_SECONDS
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.sources import SOURCES
from phasegate.engine.verdict import CheckVerdict, Judgement
from phasegate.rollout.judging import phase_plan
from phasegate.rollout.route import Mode


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--agent", required=True, metavar="NAMESPACE/NAME")
@click.option("--revision", required=True, help="The candidate: its hash.")
@click.option("--baseline", help="The revision it is compared with; default: the other one.")
@click.option(
    "--mode",
    type=click.Choice(["live", "dark", "shadow"]),
    default="live",
    show_default=True,
    help="Of the candidate's pods.",
)
@click.option("--from", "start", required=True, metavar="TIME", help="When the phase begins.")
@click.option("--to", "end", required=True, metavar="TIME", help="When to stop.")
@click.option("--min-duration", help="The phase's; default: none, planned from --from to --to.")
@click.option("--min-samples", default=50, show_default=True, type=click.IntRange(0))
@click.option("--model", help="The pinned model, for model-drift.")
@click.option("--prometheus", help="Provider of --config; default: the policy's.")
@click.option("--config", type=click.Path(path_type=Path), help="The operator's configuration.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw a picture.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw a picture.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table")
def backtest(  # noqa: PLR0913, PLR0917 (one argument an option)
    policy: Path,
    agent: str,
    revision: str,
    baseline: str | None,
    mode: Mode,
    start: str,
    end: str,
    min_duration: str | None,
    min_samples: int,
    model: str | None,
    prometheus: str | None,
    config: Path | None,
    png: Path | None,
    svg: Path | None,
    output: str,
) -> None:
    """Judge a revision's past by a POLICY (a file): what would have been decided, and when.

    TIME is like 2026-11-21T09:30:00Z. The verdicts are those of the running operator: every scrape
    in the provider's history is judged by the same code, in the same order.
    """
    pictures = [path for path in (png, svg) if path is not None]
    if pictures:
        from phasegate.cli import picture

        picture.available()
    namespace, given, name = agent.partition("/")
    if not (namespace and given and name):
        raise click.BadParameter(f"{agent!r} is not NAMESPACE/NAME", param_hint="--agent")
    since, until = _time(start, "--from"), _time(end, "--to")
    if until <= since:
        raise click.BadParameter("must be later than --from", param_hint="--to")
    spec = read_policy(policy)
    try:
        phase = Phase(
            name="backtest", type="Full", min_duration=min_duration or "0s", min_samples=min_samples
        )
    except ValidationError as error:
        raise click.BadParameter(explain(error, "phase")) from error
    plan = phase_plan(spec, Context(model=model), phase, since)
    if min_duration is None:
        plan = replace(plan, planned_seconds=max(60.0, (until - since).total_seconds()))
    party = Party(Key(namespace, name), revision, baseline or "", mode, mirrored=mode != "live")
    wanted = _Wanted(spec, plan, party, until.timestamp())
    found = asyncio.run(_run(wanted, prometheus or spec.prometheus, config))
    for path in pictures:
        from phasegate.cli import picture

        picture.draw(found, path)
    click.echo(json.dumps(_json(found), indent=2) if output == "json" else "\n".join(told(found)))


def _time(text: str, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        words = f"{text!r} is not a time such as 2026-11-21T09:30:00Z"
        raise click.BadParameter(words, param_hint=option) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be judged; without a stable revision in `party`, the one that answered beside it."""

    policy: RollbackPolicySpec
    plan: EvidencePlan
    party: Party
    until: float


async def _run(wanted: _Wanted, provider: str, config: Path | None) -> Backtest:
    async with open_provider(provider, config) as metrics:
        party = wanted.party
        if not party.stable:
            party = replace(party, stable=await _other(wanted, metrics))
        source, plan = SOURCES[wanted.policy.source], wanted.plan
        if lasting(source.identity):
            raise InvalidSpec(
                f"source {wanted.policy.source} knows places in the route and not revisions: which "
                "revision was where cannot be read from its history"
            )
        subject = Subject("backtest", party, provider, wanted.policy.source, plan)
        return await replayed(subject, metrics, wanted.until)


async def _other(wanted: _Wanted, provider: MetricsProvider) -> str:
    """The revision beside the candidate that answered users."""
    source, start = SOURCES[wanted.policy.source], wanted.plan.start
    key, candidate = wanted.party.key, wanted.party.candidate
    found = await revisions(provider, source, key, start - LOOKBACK_SECONDS, wanted.until)
    others = {revision: calls for revision, calls in found.items() if revision != candidate}
    busy = [revision for revision, calls in others.items() if calls > 0]
    if len(busy) == 1:
        return busy[0]
    if not others:
        raise InvalidSpec(
            f"no other revision of {key.namespace}/{key.name} answered at the time: "
            "name the one to compare with by --baseline"
        )
    names = ", ".join(sorted(others))
    raise InvalidSpec(f"several revisions answered at the time; name one by --baseline: {names}")


# --- what is said --------------------------------------------------------------------------------


def told(found: Backtest) -> Iterator[str]:
    """The timeline, changes only, and what would have come of it."""
    for turn in found.turns:
        yield f"{_clock(turn.judgement.at)}  {_verdict(turn)}"
        yield from (f"{'':24}  {_sentence(check)}" for check in turn.changed)
    yield ""
    yield _outcome(found)


def _verdict(turn: Turn) -> str:
    judgement = turn.judgement
    return f"{judgement.verdict} ({judgement.reason}): {judgement.message}"


def _sentence(check: CheckVerdict) -> str:
    text = f"{check.check}: {check.verdict} ({check.reason}): {check.message}"
    return f"{text}; early warning: {check.warning}" if check.warning else text


def _outcome(found: Backtest) -> str:
    """What the operator would have done."""
    start, passed, failed = found.plan.start, found.passed, found.failed
    if passed is not None:
        said = f"would have advanced at {_when(passed, start)}"
        if failed is not None:
            return f"{said}; had it stayed, rolled back at {_when(failed, start)}"
        return said
    if failed is not None:
        return f"would have rolled back at {_when(failed, start)}: {failed.judgement.message}"
    last = found.last
    if last is None or last.judgement.candidate_calls + last.judgement.baseline_calls == 0:
        return "no call was counted in this time: check --agent, --revision and the provider"
    return f"would have held until {_clock(found.until)}: {last.judgement.message}"


def _when(look: Look, start: float) -> str:
    after = format_duration(timedelta(seconds=round(look.now - start)))
    return f"{_clock(look.judgement.at)} ({after} after the beginning)"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(found: Backtest) -> dict[str, Any]:
    """Times in unix seconds; `at` is the newest sample's, `now` when it could be judged."""
    return {
        "from": found.plan.start,
        "to": found.until,
        "looks": found.looks,
        "outcome": _outcome(found),
        "advancedAt": _look(found.passed),
        "rolledBackAt": _look(found.failed),
        "timeline": [
            {
                **_look_of(turn.now, turn.judgement),
                "changed": [asdict(check) for check in turn.changed],
            }
            for turn in found.turns
        ],
    }


def _look(look: Look | None) -> dict[str, Any] | None:
    return None if look is None else _look_of(look.now, look.judgement)


def _look_of(now: float, judgement: Judgement) -> dict[str, Any]:
    return {
        "now": now,
        "at": judgement.at,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "message": judgement.message,
        "candidateCalls": judgement.candidate_calls,
        "baselineCalls": judgement.baseline_calls,
    }
