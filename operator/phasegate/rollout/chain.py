"""The chains of an attempt's record: a change of any entry breaks its list's chain (docs/records.md).

An entry's hash is SHA-256 over the hash before it, a line feed, and the entry as canonical JSON
without its own hash. The first entry of a list follows on what the record is about: a record's
chain fits no other record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.api.records import Entry, Fold, RecordHead, RecordList
from phasegate.rollout.revision import canonical

CHAIN: Final = "sha256-1"
"""What a record's spec says whose entries are chained like this."""
LISTS: Final[tuple[RecordList, ...]] = ("gates", "actions", "incidents", "notices")
KEPT: Final = 16
"""Newest entries of a list that are never folded."""

E = TypeVar("E", bound=Entry)


class Origin(NamedTuple):
    """What a record is about, as the API server stores it."""

    namespace: str
    name: str
    spec: Mapping[str, Any]

    def hash(self, name: RecordList, before: Sequence[Mapping[str, Any]]) -> str:
        """What the first entry of a list follows on; `before`: entries from before it was chained."""
        start = {
            "chain": CHAIN,
            "namespace": self.namespace,
            "name": self.name,
            "spec": without_nulls(self.spec),
            "list": name,
            "before": [without_nulls(entry) for entry in before],
        }
        return hashlib.sha256(canonical(start)).hexdigest()


def link(previous: str, entry: Mapping[str, Any]) -> str:
    """The hash of a stored entry that follows on `previous`."""
    content = {key: value for key, value in without_nulls(entry).items() if key != "hash"}
    return hashlib.sha256(previous.encode() + b"\n" + canonical(content)).hexdigest()


def stored(entry: Entry) -> dict[str, Any]:
    """The entry as the API server stores it."""
    return entry.model_dump(mode="json", by_alias=True, exclude_none=True)


def sealed(entry: E, chain: Sequence[E], fold: Fold | None, name: RecordList, origin: Origin) -> E:
    """`entry` with its number and hash, as the next one of `chain`."""
    last = chain[-1] if chain else None
    if last is not None and last.seq is not None and last.hash is not None:
        seq, previous = last.seq, last.hash
    elif fold is not None:
        seq, previous = fold.entries, fold.hash
    else:
        seq, previous = 0, origin.hash(name, [stored(old) for old in chain])
    numbered = entry.model_copy(update={"seq": seq + 1, "hash": None})
    return numbered.model_copy(update={"hash": link(previous, stored(numbered))})


def folded(chain: Sequence[E], name: RecordList, entries: int) -> tuple[tuple[E, ...], Fold | None]:
    """`chain` without its oldest `entries` chained ones, and all before them; what stands for them."""
    last = [entry for entry in chain if entry.hash is not None][entries - 1]
    if last.seq is None or last.hash is None:
        return tuple(chain), None
    rest = tuple(chain[chain.index(last) + 1 :])
    return rest, Fold(list=name, entries=last.seq, hash=last.hash)


def fold_of(status: AgentRolloutStatus, name: RecordList) -> Fold | None:
    """What stands for the oldest entries of a list, if they were folded."""
    return next((fold for fold in status.folded if fold.list == name), None)


def head_of(name: str, status: AgentRolloutStatus) -> RecordHead | None:
    """How far a record is written; None while nothing of it is chained."""
    heads = {}
    for part in LISTS:
        last = next(iter(entries_of(status, part)[-1:]), None)
        if last is not None and last.hash is not None:
            heads[part] = f"{last.seq}:{last.hash}"
    return RecordHead.model_validate({"name": name, **heads}) if heads else None


def furthest(known: RecordHead | None, name: str, status: AgentRolloutStatus) -> RecordHead | None:
    """`known`, or how far the record `name` goes on from there, list by list.

    Where the record contradicts what was known, that stays: however much is written after it.
    """
    seen = head_of(name, status)
    if known is None or seen is None or known.name != seen.name:
        return seen or known
    later: dict[str, Any] = {
        part: getattr(seen, part)
        for part in LISTS
        if getattr(seen, part) is not None and _goes_on(getattr(known, part), status, part)
    }
    return known.model_copy(update=later)


def entries_of(status: AgentRolloutStatus, name: RecordList) -> tuple[Entry, ...]:
    """A list of a record."""
    entries: tuple[Entry, ...] = getattr(status, name)
    return entries


def point(head: object) -> tuple[int, str] | None:
    """Number and hash of ``number:hash``; None if it is none."""
    number, _, digest = str(head or "").partition(":")
    return (
        (int(number), digest) if number[:18] == number and number.isdecimal() and digest else None
    )


def without_nulls(value: Any) -> Any:
    """What is not there is not stored, in whatever way it is written."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def _goes_on(head: str | None, status: AgentRolloutStatus, name: RecordList) -> bool:
    """Whether a list still has the entry that `head` names; one that is folded, as far as can be told."""
    known = point(head)
    if known is None:
        return True
    fold = fold_of(status, name)
    if fold is not None and known[0] < fold.entries:
        return True
    ends = [(fold.entries, fold.hash)] if fold is not None else []
    return known in ends or any((e.seq, e.hash) == known for e in entries_of(status, name))
