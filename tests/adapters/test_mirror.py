"""What is held, what is newer, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.adapters.mirror import TRUST, Mirror, Scope
from phasegate.control import kinds

OURS = {"app.kubernetes.io/managed-by": "phasegate", "phasegate.dev/agent": "support"}


def item(
    name: str, version: int, labels: dict[str, str] | None = None, **body: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "shop", "name": name, "resourceVersion": str(version)}
    if labels is not None:
        metadata["labels"] = labels
    return {"metadata": metadata, **body}


@pytest.fixture
def time() -> list[float]:
    return [0.0]


@pytest.fixture
def mirror(time: list[float]) -> Mirror:
    return Mirror(Scope(kinds.SERVICE), lambda: time[0])


def test_an_object_is_given_back_as_it_came_but_for_the_managers_of_its_fields(
    mirror: Mirror,
) -> None:
    service = item("a", 5, spec={"ports": [{"port": 80}], "text": "grüß 🌍"})
    service["metadata"]["managedFields"] = [{"manager": "x" * 10_000}]
    mirror.put(service)
    del service["metadata"]["managedFields"]
    assert mirror.get("shop", "a") == {"apiVersion": "v1", "kind": "Service", **service}
    assert mirror.size < 1000


def test_objects_that_are_alike_take_little_room(mirror: Mirror) -> None:
    words = [f"container-{n}: {n * 7919 % 104729}" for n in range(100)]
    for number in range(100):
        mirror.put(item(f"s-{number}", number, spec={"words": [*words, str(number)]}))
    assert mirror.size / len(mirror) < 0.2 * len(str(words))
    assert mirror.get("shop", "s-57") is not None


def test_the_callers_copy_is_their_own(mirror: Mirror) -> None:
    mirror.put(item("a", 5, spec={"ports": [80]}))
    for found in (mirror.get("shop", "a"), *mirror.list("shop")):
        assert found is not None
        found["spec"]["ports"].append(81)
    assert (mirror.get("shop", "a") or {})["spec"] == {"ports": [80]}


def test_the_newer_of_two_stays(mirror: Mirror) -> None:
    mirror.put(item("a", 9, spec=1))
    assert not mirror.put(item("a", 8, spec=0))
    assert mirror.version("shop", "a") == 9
    assert mirror.put(item("a", 10, spec=2))
    assert (mirror.get("shop", "a") or {})["spec"] == 2


def test_versions_that_are_no_numbers_have_no_order_and_the_last_word_counts(
    mirror: Mirror,
) -> None:
    for word in ("b", "a"):
        mirror.put(item("x", 0, spec=word) | {"metadata": item("x", 0)["metadata"]})
    assert (mirror.get("shop", "x") or {})["spec"] == "a"


def test_a_deletion_does_not_take_what_was_made_since(mirror: Mirror) -> None:
    mirror.put(item("a", 9))
    assert not mirror.remove(item("a", 8))
    assert mirror.version("shop", "a") == 9
    assert mirror.remove(item("a", 10))
    assert mirror.get("shop", "a") is None


def test_an_answer_that_comes_after_the_news_of_its_deletion_brings_nothing_back(
    mirror: Mirror,
) -> None:
    mirror.put(item("a", 5))
    mirror.remove(item("a", 7))
    mirror.hear("7")
    mirror.offer(item("a", 6))
    assert mirror.get("shop", "a") is None
    mirror.offer(item("b", 8))
    assert mirror.version("shop", "b") == 8


def test_a_list_tells_what_it_lacks(mirror: Mirror) -> None:
    for name in "abc":
        mirror.put(item(name, 5, spec=name))
    mirror.offer(item("ours", 21))  # made while the list was on its way
    gone = list(mirror.settle({("shop", "a"), ("shop", "c")}, "20"))
    assert [found["metadata"]["name"] for found in gone] == ["b"]
    assert gone[0]["spec"] == "b"
    assert {name for _, name in mirror.names()} == {"a", "c", "ours"}


def test_objects_of_an_agent_are_found_by_their_label(mirror: Mirror) -> None:
    mirror.put(item("a", 1, OURS))
    mirror.put(item("b", 2, OURS | {"phasegate.dev/agent": "sales"}))
    mirror.put(item("c", 3, {"phasegate.dev/agent": "support"}))
    selector = "phasegate.dev/agent=support,app.kubernetes.io/managed-by=phasegate"
    assert [found["metadata"]["name"] for found in mirror.list("shop", selector)] == ["a"]
    mirror.put(item("a", 4, OURS | {"phasegate.dev/agent": "sales"}))
    assert mirror.list("shop", selector) == []
    assert mirror.list("elsewhere", selector) == []


def test_it_is_believed_once_listed_and_while_its_stream_speaks(
    mirror: Mirror, time: list[float]
) -> None:
    fresh = []
    mirror.hear()
    fresh.append(mirror.fresh)
    list(mirror.settle(set(), "1"))
    fresh.append(mirror.fresh)
    time[0] += TRUST
    fresh.append(mirror.fresh)
    mirror.hear("2")
    fresh.append(mirror.fresh)
    assert fresh == [False, True, False, True]


def test_doubt_lasts_until_there_is_news(mirror: Mirror) -> None:
    mirror.put(item("a", 5))
    mirror.doubt("shop", "a")
    before = mirror.doubted("shop", "a")
    mirror.put(item("a", 6))
    assert (before, mirror.doubted("shop", "a")) == (True, False)


def test_a_scope_knows_what_belongs_to_it_and_which_questions_it_can_answer() -> None:
    ours = Scope(kinds.CONFIG_MAP, labels="app.kubernetes.io/managed-by=phasegate")
    others = Scope(
        kinds.CONFIG_MAP, labels="app.kubernetes.io/managed-by!=phasegate", metadata_only=True
    )
    assert ours.holds(OURS)
    assert not ours.holds({})
    assert others.holds({})
    assert not others.holds(OURS)
    assert ours.covers("phasegate.dev/agent=a,app.kubernetes.io/managed-by=phasegate")
    assert not ours.covers("phasegate.dev/agent=a")
    assert not others.covers("")
    assert Scope(kinds.SERVICE).covers("")
