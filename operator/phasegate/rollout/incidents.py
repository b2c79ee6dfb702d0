"""The entries of a rollback in its attempt's record, with where to look for what failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import get_args

from phasegate.api.errors import InvalidSpec
from phasegate.api.records import IncidentRecord, Pointer, RollbackRecord
from phasegate.engine.compiling import compile_checks
from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources import SOURCES
from phasegate.engine.sources.base import Identity
from phasegate.rollout.judging import compile_context, default_policy
from phasegate.rollout.labels import workload_name
from phasegate.rollout.observed import Observed
from phasegate.rollout.route import Mode

AROUND = timedelta(minutes=5)
"""Looked at before the onset, too; and before the decision where no onset is known."""
POINTERS = 8
"""Selectors of a check that are named."""
_MODES: tuple[Mode, ...] = get_args(Mode)


def incidents(seen: Observed, rollback: RollbackRecord | None) -> Iterator[IncidentRecord]:
    """The entries of a rollback as far as it has come."""
    if rollback is None:
        return
    # Only what an entry has: the API server drops the rest, and the hash would not fit.
    told = rollback.model_dump(include=set(IncidentRecord.model_fields))
    after = ("safe_at", "seconds_to_safe", "affected_calls")
    before = {key: value for key, value in told.items() if key not in after}
    look = tuple(_pointers(seen, rollback))
    yield IncidentRecord.model_validate({"what": "TakenBack", **before, "look": look})
    if rollback.safe_at is not None:
        key = ("decided_at", "phase", "trigger")
        safe = {key: told[key] for key in (*key, *after)}
        yield IncidentRecord.model_validate({"what": "Safe", **safe})


def _pointers(seen: Observed, rollback: RollbackRecord) -> Iterator[Pointer]:
    """The series that the check reads which tripped, of the revision, from before the onset on."""
    policy = seen.policy.spec
    if seen.spec is None:
        return
    policy = policy or default_policy(seen.spec)
    try:
        checks = compile_checks(policy, compile_context(seen.spec, seen.policy.prices))
    except InvalidSpec:
        return
    tripped = next((check for check in checks if check.name == rollback.trigger), None)
    if tripped is None:
        return
    whose = tuple(_whose(seen, rollback.revision, SOURCES[policy.source].identity))
    start = min(rollback.since or rollback.decided_at, rollback.decided_at) - AROUND
    named = dict.fromkeys(str(Selector(s.name, (*whose, *s.matchers))) for s in tripped.selectors())
    for selector in list(named)[:POINTERS]:
        yield Pointer(selector=selector[:2048], start=start, end=rollback.decided_at)


def _whose(seen: Observed, revision: str, identity: Identity) -> Iterator[Matcher]:
    """Label conditions of a revision's series, in whatever mode, as far as labels are plain."""
    fields = {"namespace": seen.meta.namespace, "agent": seen.meta.name, "revision": revision}
    for label, template in identity.labels:
        if "{slot}" in template:
            continue
        if "{mode}" not in template and "{workload}" not in template:
            yield Matcher(label, "=", template.format_map(fields))
            continue
        names = {mode: workload_name(seen.meta.name, revision, mode) for mode in _MODES}
        values = [
            template.format_map({**fields, "mode": mode, "workload": names[mode]})
            for mode in _MODES
        ]
        yield Matcher(label, "=~", "|".join(values))
