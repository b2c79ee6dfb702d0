"""Altering, removing, adding or moving anything in a record is found, and what is whole is not doubted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.engine.verdict import Verdict
from phasegate.rollout.verifying import verify

from tests.rollout.world import World, make_revision

Json = dict[str, Any]
B, C = make_revision("b"), make_revision("c")
WORKING_MEMORY = ("evidence", "judgedBy")


@cache
def story() -> list[Json]:
    """One attempt that was taken back after an alert and a pause, and one that went well."""
    world = World()
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.alerts = {"error-rate"}
    world.run(3)
    world.act("Pause")
    world.run(2)
    world.act("Resume")
    world.alerts = set()
    world.run(4, timedelta(minutes=2))
    world.verdict = Verdict.FAIL
    world.until("RolledBack")
    world.run(3)
    world.verdict = Verdict.PASS
    world.edit(C)
    world.until("Canary")
    world.until("Stable", 400)
    world.run(3)
    status = world.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {"namespace": "team", "name": "bot"}
    agent = {"kind": "AgentDeployment", "metadata": metadata, "status": status}
    return [agent, *world.stored_records()]


def altered(objects: list[Json]) -> list[str]:
    return [f"{report.name}: {what}" for report in verify(objects) for what in report.altered]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def places() -> list[tuple[Any, ...]]:
    """Every value of every record: what a hand could change."""
    return [
        (n, part, *path)
        for n, item in enumerate(story())
        if item["kind"] == "AgentRollout"
        for part in ("spec", "status")
        for path in leaves(item[part])
        if path[0] not in WORKING_MEMORY
    ]


def parent(objects: list[Json], place: tuple[Any, ...]) -> Any:
    found: Any = objects
    for key in place[:-1]:
        found = found[key]
    return found


def other(value: Any) -> Any:
    """Something else of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value}x"


def test_the_story_has_all_there_is_and_nobody_doubts_it() -> None:
    records = [item["status"] for item in story() if item["kind"] == "AgentRollout"]
    assert [record["phase"] for record in records] == ["RolledBack", "Succeeded"]
    assert [entry["verb"] for entry in records[0]["actions"]] == ["Pause", "Resume"]
    assert [entry["what"] for entry in records[0]["incidents"]] == ["TakenBack", "Safe"]
    assert len(records[0]["notices"]) == 2
    assert altered(story()) == []


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_of_any_value_is_found(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places()))
    objects = copy.deepcopy(story())
    holder = parent(objects, place)
    if data.draw(st.booleans()) and isinstance(holder, dict):
        del holder[place[-1]]
    else:
        holder[place[-1]] = other(holder[place[-1]])
    assert altered(objects) != [], place


def lists() -> list[tuple[int, str]]:
    return [
        (n, name)
        for n, item in enumerate(story())
        for name in ("gates", "actions", "incidents", "notices")
        if item["kind"] == "AgentRollout" and item["status"].get(name)
    ]


@pytest.mark.parametrize(("record", "name"), lists())
def test_an_entry_that_is_removed_added_or_moved_is_found(record: int, name: str) -> None:
    entries = story()[record]["status"][name]
    for at, entry in enumerate(entries):
        changed = [entries[:at] + entries[at + 1 :], [*entries[:at], entry, *entries[at:]]]
        if at:
            changed.append([*entries[: at - 1], entry, entries[at - 1], *entries[at + 1 :]])
        for forged in changed:
            objects = copy.deepcopy(story())
            objects[record]["status"][name] = forged
            assert altered(objects) != [], (name, at)


@pytest.mark.parametrize(("record", "name"), lists())
def test_a_tail_that_is_cut_is_found_because_others_name_the_head(record: int, name: str) -> None:
    """Also by a hand that makes what follows from the entries fit."""
    objects = copy.deepcopy(story())
    status = objects[record]["status"]
    status[name].pop()
    last = status["gates"][-1] if status["gates"] else {}
    status |= {"message": last.get("message"), "phase": "Progressing", "endedAt": None}
    status.pop("incident", None)
    who = "status of agent bot" if record == 2 else "record bot-2"
    assert any(f"{name}: entry" in what and who in what for what in altered(objects))


def test_a_record_that_is_gone_is_missed() -> None:
    agent, first, last = copy.deepcopy(story())
    assert "bot-2" in " ".join(altered([agent, first]))
    assert altered([agent, last]) == []  # the oldest: retention may have taken it
    third = copy.deepcopy(last)
    third["metadata"]["name"], third["spec"]["number"] = "bot-3", 3
    assert any("attempt 2" in what for what in altered([first, third]))


def test_a_record_in_the_place_of_another_fits_no_chain() -> None:
    agent, first, last = copy.deepcopy(story())
    last["status"] = first["status"]
    assert any("does not fit its hash" in what for what in altered([agent, first, last]))


def test_an_accepted_decision_that_is_not_recorded_is_missed() -> None:
    objects = copy.deepcopy(story())
    name = objects[1]["metadata"]["name"]
    action = {
        "kind": "RolloutAction",
        "metadata": {"namespace": "team", "name": "act-9", "uid": "uid-9"},
        "spec": {"actor": "mallory", "verb": "Approve"},
        "status": {"outcome": "Accepted", "rollout": name},
    }
    assert any("act-9" in what for what in altered([*objects, action]))
    action["status"] = {"outcome": "Refused", "rollout": name}
    assert altered([*objects, action]) == []
