"""Odd input: manifests that are nearly valid, and text of every kind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),  # the API server keeps no Cs
    st.sampled_from(
        [
            "",
            " ",
            "\x00",
            "\n---\nkind: Secret",
            "\x1b[2J",
            "\u202e",
            "\U0001f9ed" * 60,
            "ﷺ" * 300,
            "é",
            "A" * 5000,
            "-",
            "a/b",
            "../../etc",
            "$(HOSTNAME)",
            "{{ 7*7 }}",
            "{revision}",
            "%s%n",
            '"} or vector(1) #',
            "(" * 200,
            "NaN",
            "1e400",
            "0x10",
            "１２",
            "5%",
            "0%",
            "100.0001%",
            "30s",
            "99999h99999m99999s",
            "99999d",
            "0",
            "999999999999.999999",
            "true",
            "null",
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 101),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 0.1, -0.0, 1e308]),
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(TEXT.filter(bool), inner, max_size=4)
    ),
    max_leaves=6,
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value, the root aside."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@st.composite
def nearly(draw: st.DrawFn, samples: st.SearchStrategy[Any], most: int = 3) -> Any:
    """One of `samples` with up to `most` changes anywhere in it."""
    value = copy.deepcopy(draw(samples))
    for _ in range(draw(st.integers(1, most))):
        found = list(places(value))
        if not found:
            break
        *parents, last = draw(st.sampled_from(found))
        place = value
        for parent in parents:
            place = place[parent]
        draw(st.sampled_from(_CHANGES))(draw, place, last)
    return value


def _delete(draw: st.DrawFn, place: Any, key: Any) -> None:
    del place[key]


def _replace(draw: st.DrawFn, place: Any, key: Any) -> None:
    place[key] = draw(JUNK)


def _same_type(draw: st.DrawFn, place: Any, key: Any) -> None:
    """Another value of the type that is expected there: what only rules can refuse."""
    old = place[key]
    if isinstance(old, str):
        place[key] = draw(TEXT)
    elif isinstance(old, bool):
        place[key] = not old
    elif isinstance(old, int | float):
        place[key] = draw(NUMBERS)
    elif isinstance(old, list) and old:
        place[key] = [*draw(st.permutations(old)), draw(st.sampled_from(old))]
    else:
        place[key] = type(old)() if old is not None else None


def _add(draw: st.DrawFn, place: Any, key: Any) -> None:
    if isinstance(place, dict):
        place[draw(TEXT.filter(bool))] = draw(JUNK)
    else:
        place.append(draw(JUNK))


_CHANGES: tuple[Callable[[st.DrawFn, Any, Any], None], ...] = (
    _delete,
    _replace,
    _same_type,
    _same_type,
    _add,
)
