"""Two agents that ask a gateway for the same requests: the younger one is told that it gets none."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.adapters.routers.claims import Claims, claims_of
from phasegate.control.ports import Key

OLD, YOUNG, THIRD = (Key("team", name) for name in ("old", "young", "third"))


def agent(key: Key, created: str, **traffic: Any) -> dict[str, Any]:
    gateway = {"parentRefs": [{"name": "lab"}], "hostnames": ["a.example.com"], **traffic}
    metadata = {"namespace": key.namespace, "name": key.name, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"traffic": {"gatewayAPI": gateway}}}


def test_the_older_one_gets_the_requests_whoever_was_looked_at_first() -> None:
    told: list[Key] = []
    claims = Claims(told.append)
    claims.note(agent(YOUNG, "2026-11-02T00:00:00Z"))
    assert claims.winner(YOUNG) is None
    claims.note(agent(OLD, "2026-11-01T00:00:00Z"))
    assert (claims.winner(OLD), claims.winner(YOUNG)) == (None, OLD)
    assert told == [YOUNG]


def test_of_two_of_one_age_the_name_decides_as_at_the_gateway() -> None:
    claims = Claims(lambda key: None)
    for key in (YOUNG, OLD):
        claims.note(agent(key, "2026-11-01T00:00:00Z"))
    assert claims.winner(YOUNG) == OLD


@pytest.mark.parametrize(
    "other",
    [
        {"hostnames": ["b.example.com"]},
        {"parentRefs": [{"name": "lab", "namespace": "elsewhere"}]},
        {"matches": [{"path": {"value": "/v2"}}]},
        {"matches": [{"headers": [{"name": "x-tenant", "value": "b"}]}]},
        {"matches": [{"method": "POST"}]},
    ],
)
def test_who_asks_for_something_else_is_no_rival(other: dict[str, Any]) -> None:
    claims = Claims(lambda key: None)
    claims.note(agent(OLD, "2026-11-01T00:00:00Z"))
    claims.note(agent(YOUNG, "2026-11-02T00:00:00Z", **other))
    assert claims.winner(YOUNG) is None


def test_what_is_left_out_is_what_the_gateway_takes_it_for() -> None:
    plain = agent(OLD, "", matches=[])
    spelled = agent(OLD, "", matches=[{"path": {"type": "PathPrefix", "value": "/"}}])
    assert claims_of(plain) == claims_of(spelled)


def test_one_that_goes_or_moves_leaves_the_requests_to_the_next() -> None:
    told: list[Key] = []
    claims = Claims(told.append)
    for day, key in enumerate((OLD, YOUNG, THIRD), 1):
        claims.note(agent(key, f"2026-11-0{day}T00:00:00Z"))
    told.clear()
    claims.drop(OLD)
    assert set(told) == {YOUNG, THIRD}
    assert (claims.winner(YOUNG), claims.winner(THIRD)) == (None, YOUNG)
    claims.note(agent(YOUNG, "2026-11-02T00:00:00Z", hostnames=["b.example.com"]))
    assert claims.winner(THIRD) is None
    assert claims._by.keys() == claims_of(agent(YOUNG, "", hostnames=["b.example.com"])) | (
        claims_of(agent(THIRD, ""))
    )
