"""One running phase of one agent, as the sampler feeds it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from phasegate.api.errors import ProviderError
from phasegate.control.addresses import Address, Role, reader, selector
from phasegate.control.calls import CallCounter
from phasegate.control.ports import Key, RawSeries
from phasegate.control.subject import Subject
from phasegate.engine.evidence import LOOKBACK_SECONDS, Evidence
from phasegate.engine.samples import VALUE_PREFIX, Arm, Series
from phasegate.engine.verdict import Judgement

AHEAD: Final = 5.0
"""Seconds by which samples may be ahead of our clock."""
MAX_SERIES: Final = 10_000
"""Series of one agent: one that labels by user must not cost all others their evidence."""
FORGET_SECONDS: Final = 3600.0
"""A series that has been gone for this long is forgotten."""
_MANY: Final = 1_000
"""Series from which on it pays to look for those that are gone."""


@dataclass(slots=True)
class _Known:
    """A raw series that was seen before: what it is to the engine, and how far it was read."""

    arm: Arm
    labels: tuple[tuple[str, str], ...]
    target: str
    late: bool
    newest: float = float("-inf")


@dataclass(slots=True)
class Attempt:
    """One running phase of one agent."""

    subject: Subject
    evidence: Evidence
    read_until: float
    """Everything up to this time (unix s) was read and fed."""
    asked_until: dict[str, float] = field(default_factory=dict)
    """The same for threshold queries, by metric."""
    history_due: bool = False
    """The baseline's past is still to be read: how much its counts vary."""
    confused: str | None = None
    """Why this agent's series cannot be told from others'."""
    judgement: Judgement | None = None
    troubles: dict[str, str] = field(default_factory=dict)
    """Why there is no data, if that is known: of the samples (key "") and of each query."""
    calls: CallCounter = field(init=False)
    behind: bool = True
    """Older samples are still to be read: no Pass until they are."""
    isolated: bool = False
    """Too much for a query shared with others: read alone."""
    rest_until: float = float("-inf")
    """Monotonic time before which it is not tried again to catch up: the last try led nowhere."""
    stored_at: float = float("-inf")
    newest: float | None = None
    """Time of the newest sample fed (unix s)."""
    _known: dict[Hashable, _Known | None] = field(default_factory=dict)
    _values: list[Series] = field(default_factory=list)
    """Results of queries that wait for samples of the same time."""

    def __post_init__(self) -> None:
        """What is counted is the phase's calls."""
        plan = self.subject.plan
        self.calls = CallCounter(plan.volume, lasting=plan.lasting)

    @property
    def key(self) -> Key:
        """The agent."""
        return self.subject.party.key

    @property
    def trouble(self) -> str | None:
        """Why there is no data, if that is known."""
        return self.confused or next(iter(self.troubles.values()), None)

    def rewind(self, now: float) -> None:
        """The clock was ahead and is not any more (`now`: unix s): read on where samples end."""
        if self.read_until <= now + AHEAD:
            return
        start = self.subject.plan.start - LOOKBACK_SECONDS
        self.read_until = min(now, start if self.newest is None else self.newest)
        self.asked_until = {metric: min(at, now) for metric, at in self.asked_until.items()}

    def feed(self, found: Iterable[tuple[RawSeries, Role]], until: float) -> None:
        """Add one reading of this agent's series, complete up to `until` (unix s).

        Raises ProviderError, with nothing fed, if the samples cannot be used.
        """
        found = list(found)
        if len(found) > MAX_SERIES:
            raise ProviderError(
                f"more than {MAX_SERIES} series of this agent; label by less than user or session"
            )
        ahead = max((raw.samples[-1][0] for raw, _ in found if raw.samples), default=until) - until
        if ahead > AHEAD:
            raise ProviderError(
                f"samples are {ahead:.0f} s ahead of the operator's clock; set all clocks by NTP"
            )
        batch = [series for raw, role in found if (series := self._series(raw, role)) is not None]
        for piece in _in_order(batch, self._values):
            self.evidence.ingest(piece)
        self._values = []
        self.calls.add(batch)
        self.read_until = max(self.read_until, until)
        if len(self._known) > _MANY:
            self._forget(until - FORGET_SECONDS)

    def feed_values(
        self, metric: str, result: Iterable[RawSeries], until: float, *, wait: bool = False
    ) -> None:
        """Add results of a threshold's query up to `until`; `wait`: with the next samples.

        So that what was missed is taken in the order of time, whatever it is.
        """
        since = self.asked_until[metric]
        name = f"{VALUE_PREFIX}{metric}"
        batch = []
        for raw in result:
            samples = tuple(s for s in raw.samples if since < s[0] <= until)
            labels = dict(raw.labels) | ({"__name__": raw.name} if raw.name else {})
            if samples:
                batch.append(Series("candidate", name, tuple(sorted(labels.items())), samples))
        if wait:
            self._values += batch
        else:
            self.evidence.ingest(batch)
        self.asked_until[metric] = max(since, until)

    def begin(self, dispersion: tuple[tuple[str, float], ...]) -> None:
        """Begin with what is known of the baseline's past; before anything was fed."""
        self.evidence = Evidence(replace(self.subject.plan, dispersion=dispersion))
        self.history_due = False

    def scraped(self) -> dict[str, float]:
        """Newest scrape time by target of the candidate: only these can show a breach."""
        times: dict[str, float] = {}
        for known in self._known.values():
            if known is not None and known.arm == "candidate" and not known.late:
                times[known.target] = max(known.newest, times.get(known.target, known.newest))
        return times

    def _series(self, raw: RawSeries, role: Role) -> Series | None:
        """What the engine is given of a raw series: not again what it was given before."""
        name = (raw.name, *raw.labels.items()) if raw.identity is None else raw.identity
        try:
            known = self._known[name]
        except KeyError:
            known = self._known[name] = self._recognize(raw, role)
        if known is None or not raw.samples:
            return None
        samples, newest = raw.samples, known.newest
        if samples[0][0] <= newest:
            if samples[-1][0] <= newest:
                return None
            samples = tuple([sample for sample in samples if sample[0] > newest])
        known.newest = newest = samples[-1][0]
        if self.newest is None or newest > self.newest:
            self.newest = newest
        return Series(known.arm, raw.name, known.labels, samples, known.late)

    def _recognize(self, raw: RawSeries, role: Role) -> _Known | None:
        late = raw.name in self.subject.late
        if role == "late" and not late:
            return None
        own = {label for label, _ in self.subject.identity.labels} | {"job"}
        labels = tuple(sorted((k, v) for k, v in raw.labels.items() if k not in own))
        arm: Arm = "baseline" if role == "baseline" else "candidate"
        return _Known(arm, labels, Series(arm, raw.name, labels, ()).target, late)

    def _forget(self, before: float) -> None:
        kept = self._known.items()
        self._known = {name: k for name, k in kept if k is not None and k.newest >= before}


def _in_order(samples: list[Series], values: list[Series]) -> Iterator[list[Series]]:
    """Samples and results of queries as they would have come, one result after the other."""
    before = -math.inf
    for at in sorted({at for series in values for at, _ in series.samples}):
        yield [*_between(samples, before, at), *_between(values, before, at)]
        before = at
    yield samples if before == -math.inf else _between(samples, before, math.inf)


def _between(found: list[Series], after: float, until: float) -> list[Series]:
    cut = (
        replace(series, samples=tuple(s for s in series.samples if after < s[0] <= until))
        for series in found
    )
    return [series for series in cut if series.samples]


def selector_of(attempts: Sequence[Attempt]) -> str:
    """A selector for every series of these attempts, which are of one source."""
    names, addresses = set[str](), list[Address]()
    for attempt in attempts:
        names |= attempt.subject.names
        addresses += attempt.subject.addresses
    return selector(names, attempts[0].subject.identity, addresses)


def deal(
    found: Iterable[RawSeries], attempts: Sequence[Attempt]
) -> Mapping[Key, list[tuple[RawSeries, Role]]]:
    """Each series to the attempt whose it is, all of one source; nobody's are left out."""
    owners: dict[Address | None, tuple[list[tuple[RawSeries, Role]], Role]] = {}
    dealt: dict[Key, list[tuple[RawSeries, Role]]] = {}
    for attempt in attempts:
        mine = dealt[attempt.key] = []
        for address, role in attempt.subject.addresses.items():
            owners[address] = mine, role
    read = reader(attempts[0].subject.identity)
    for series in found:
        owner = owners.get(read.address(series.labels))
        if owner is not None:
            owner[0].append((series, owner[1]))
    return dealt
