"""Whose is a series? A source's identity → the labels to ask for; a series' labels → agent and arm.

An address is the tuple of the label values (or of their parts) that say whose a series is. What is
running is kept by address, so that a series is found in one look-up, however many attempts run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from phasegate.control.ports import Key
from phasegate.engine.sources.base import Identity
from phasegate.rollout.labels import workload_name
from phasegate.rollout.route import Mode

Address = tuple[str, ...]
Role = Literal["candidate", "baseline", "late"]
"""`late`: the candidate's in another mode. Labels that arrive hours after the call still count."""

MODES: Final[tuple[Mode, ...]] = ("live", "dark", "shadow")
_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_RUN: Final = re.compile(r"\{[a-z]+\}(?:[-/]\{[a-z]+\})*")
_ALONE: Final = re.compile(r"(?:^|[^a-z0-9.*+-])\{namespace\}(?:$|[^a-z0-9.*+-])")


@dataclass(frozen=True, slots=True)
class Party:
    """Who is compared: what templates are filled in with."""

    key: Key
    candidate: str
    stable: str
    mode: Mode
    """The candidate's pods'; the baseline is what serves users."""
    mirrored: bool = False
    """The candidate gets copies of requests and answers nobody."""
    slots: tuple[str, ...] = ()
    """The revision in each slot of the route; empty while that is not known."""

    def _fields(self, revision: str, mode: Mode, slot: int | None = None) -> dict[str, str]:
        return {
            "namespace": self.key.namespace,
            "agent": self.key.name,
            "revision": revision,
            "mode": mode,
            "workload": workload_name(self.key.name, revision, mode),
            "slot": "" if slot is None else str(slot),
        }

    def addresses(self, identity: Identity) -> dict[Address, Role]:
        """Every address of this agent's series in a source, with what they are."""
        if _by_slot(identity):
            return self._in_route(identity)
        found: dict[Address, Role] = {}
        templates = _templates(identity)
        for mode in MODES:
            found[_fill(templates, self._fields(self.candidate, mode))] = "late"
        found[_fill(templates, self._fields(self.candidate, self.mode))] = "candidate"
        baseline = _fill(templates, self._fields(self.stable, "live"))
        found.setdefault(baseline, "baseline")
        return found

    def _in_route(self, identity: Identity) -> dict[Address, Role]:
        """A gateway knows places in the route, not revisions. Of mirrored copies there is one."""
        templates, found = _templates(identity), dict[Address, Role]()
        for slot, revision in enumerate(self.slots):
            if revision == self.stable:
                found[_fill(templates, self._fields(revision, "live", slot))] = "baseline"
            elif revision == self.candidate and not self.mirrored:
                found[_fill(templates, self._fields(revision, "live", slot))] = "candidate"
        if self.mirrored and identity.mirrored:
            copies = tuple(template for _, template in identity.mirrored)
            found[_fill(copies, self._fields(self.candidate, self.mode))] = "candidate"
        return found


def lasting(identity: Identity) -> bool:
    """Whether series outlive revisions: what one counted before it was seen is somebody else's."""
    return _by_slot(identity)


def rivals(identity: Identity, key: Key, namespaces: Iterable[str]) -> list[str]:
    """Namespaces whose series could be taken for this agent's, of those given.

    Names joined by dashes can be cut in several ways: `a-b-c` is b-c of a, or c of a-b. A label
    with the namespace alone, or set off by what no name may contain, has no such rivals.
    """
    ways = ((*identity.labels, *identity.patterns), identity.mirrored)
    if all(any(_ALONE.search(template) for _, template in way) for way in ways if way):
        return []
    mine = f"{key.namespace}-{key.name}-"
    return sorted(
        other
        for other in set(namespaces) - {key.namespace}
        if mine.startswith(f"{other}-") or other.startswith(mine)
    )


def selector(names: Iterable[str], identity: Identity, addresses: Iterable[Address]) -> str:
    """A selector for every series of these names at these addresses, and few others.

    Each label has its values as alternatives, so combinations that are nobody's may come too.
    """
    columns = [sorted(set(column)) for column in zip(*addresses, strict=True)]
    parts = [f'__name__=~"{_quoted(_any_of(sorted(set(names))))}"']
    for label, _ in identity.labels:
        parts.append(f'{label}=~"{_quoted(_any_of(columns.pop(0)))}"')
    for label, template in identity.patterns:
        pattern = _RUN.sub(lambda _: f"(?:{_any_of(columns.pop(0))})", template)
        parts.append(f'{label}=~"{_quoted(pattern)}"')
    parts += [f'{m.label}{m.op}"{_quoted(m.value)}"' for m in identity.fixed]
    return "{" + ",".join(parts) + "}"


class Reader:
    """Reads the address off a series' labels."""

    def __init__(self, identity: Identity) -> None:
        self._labels = tuple(label for label, _ in identity.labels)
        self._patterns = tuple(
            (label, _reading(template), _reading(template, short=True))
            for label, template in identity.patterns
        )
        self._fixed = identity.fixed

    def address(self, labels: Mapping[str, str]) -> Address | None:
        """The address; None when a label is missing or can be read in more than one way."""
        found = [labels.get(label, "") for label in self._labels]
        for label, greedy, lazy in self._patterns:
            value = labels.get(label, "")
            one, other = greedy.fullmatch(value), lazy.fullmatch(value)
            if one is None or other is None or one.groups() != other.groups():
                return None
            found += one.groups()
        if "" in found or not all(m.accepts(labels.get(m.label, "")) for m in self._fixed):
            return None
        return tuple(found)


@lru_cache(maxsize=64)
def reader(identity: Identity) -> Reader:
    """The reader of an identity."""
    return Reader(identity)


def _reading(template: str, *, short: bool = False) -> re.Pattern[str]:
    """A pattern with its names as groups; what lies between is as long, or as `short`, as can be."""
    text = _RUN.sub("(.+)", _RUN.sub("(.+?)", template, count=1))
    return re.compile(text.replace(".+-", ".+?-") if short else text)


def _by_slot(identity: Identity) -> bool:
    return any("{slot}" in template for _, template in (*identity.labels, *identity.patterns))


@lru_cache(maxsize=64)
def _templates(identity: Identity) -> tuple[str, ...]:
    """What an address is made of: whole values, and of patterns the parts that are names."""
    runs = (run for _, template in identity.patterns for run in _RUN.findall(template))
    return (*(template for _, template in identity.labels), *runs)


def _fill(templates: Iterable[str], fields: Mapping[str, str]) -> Address:
    return tuple(template.format_map(fields) for template in templates)


def _any_of(values: Iterable[str]) -> str:
    """A regular expression that matches these and nothing else."""
    return "|".join(_SPECIAL.sub(r"\\\g<0>", value) for value in values)


def _quoted(text: str) -> str:
    """The inside of a PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
