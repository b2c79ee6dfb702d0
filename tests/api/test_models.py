"""What the models accept, and what they say when they do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Budget,
    Phase,
    Progress,
    Strategy,
)
from phasegate.api.base import (
    MAX_AGENT_NAME,
    MAX_MESSAGE,
    Digest,
    Duration,
    Factor,
    Limit,
    LongDuration,
    Name,
    Percent,
)
from phasegate.api.errors import InvalidSpec
from phasegate.api.quantities import format_duration, parse_duration, parse_percent
from phasegate.api.rollbackpolicy import Selector
from pydantic import TypeAdapter, ValidationError

MINIMAL: dict[str, Any] = {
    "template": {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}},
    "service": {"port": 8080},
    "traffic": {"gatewayAPI": {"parentRefs": [{"name": "gateway"}]}},
}

NOTATIONS = {
    "Duration": Duration,
    "LongDuration": LongDuration,
    "Percent": Percent,
    "Factor": Factor,
    "Limit": Limit,
    "Name": Name,
    "Selector": Selector,
    "Digest": Digest,
}
GOOD = {
    "Duration": "0s 30s 10m 1h30m 2h5s 99999h",
    "LongDuration": "30d 24h 1d12h 5s",
    "Percent": "0% 5% 0.5% 99.9999% 100% 100.0%",
    "Factor": "1 1.5 0.25 9999.9999",
    "Limit": "5% 0.5% 0 250 99999.5",
    "Name": "a a-b error-rate 9",
    "Selector": 'a_total a{b="c"} a:b{c!="d",e=~"f|g"}',
    "Digest": "sha256:" + "a" * 64,
}
BAD = {
    "Duration": "1.5h 2d 30S m10 10m1h -1s 100000h ٣s",
    "LongDuration": "30 1w 12h1d",
    "Percent": "5 101% 100.1% -1% .5% 5%% 0.12345% %",
    "Factor": "1,5 -1 1. x 10000",
    "Limit": "120% -1 a 1e3",
    "Name": "A a_b -a a- a.b",
    "Selector": 'rate(a) a[5m] a{b=c} a{b="c"}+1 a{b="{}"} {b="c"}',
    "Digest": "latest sha256:abc",
}


def cases(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in table.items() for text in texts.split(" ")]


@pytest.mark.parametrize(("name", "text"), cases(GOOD))
def test_a_value_in_its_notation_is_kept_as_written(name: str, text: str) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(NOTATIONS[name])
    assert adapter.validate_python(text) == text


@pytest.mark.parametrize(("name", "text"), cases(BAD))
def test_another_value_is_refused_with_a_sentence(name: str, text: str) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(NOTATIONS[name])
    with pytest.raises(ValidationError, match=r"must be|must consist"):
        adapter.validate_python(text)


@pytest.mark.parametrize("name", NOTATIONS)
def test_nothing_and_line_breaks_are_refused(name: str) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(NOTATIONS[name])
    for text in ("", "5%\n", "5s\n", "a\n", "\n"):
        with pytest.raises(ValidationError):
            adapter.validate_python(text)


def test_a_minimal_agent_gets_the_phased_preset_and_documented_defaults() -> None:
    spec = AgentDeploymentSpec.model_validate(MINIMAL)
    assert spec.strategy == Strategy(preset="Phased")
    assert (spec.exposure, spec.replicas) == ("CustomerFacing", 1)
    assert (spec.standby.keep_warm, spec.standby.archive) == ("24h", "30d")


def test_a_specs_models_cannot_be_changed() -> None:
    spec = AgentDeploymentSpec.model_validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.replicas = 2  # type: ignore[misc]


def test_a_message_that_is_too_long_loses_its_end_instead_of_the_status() -> None:
    status = AgentDeploymentStatus(message="x" * (MAX_MESSAGE + 1))
    assert len(status.message) == MAX_MESSAGE
    assert status.message.endswith("x…")


def test_the_longest_name_leaves_room_for_its_childrens_labels() -> None:
    assert len("n" * MAX_AGENT_NAME + "-" + "h" * 10 + "-shadow") <= 63


@given(st.integers(0, 10_000_000))
def test_a_duration_survives_being_written_and_read(seconds: int) -> None:
    delta = timedelta(seconds=seconds)
    assert parse_duration(format_duration(delta)) == delta
    TypeAdapter(LongDuration).validate_python(format_duration(delta))


@given(st.from_regex(r"\A(100|[0-9]{1,2}(\.[0-9]{1,4})?)%\Z"))
def test_every_percentage_of_the_api_can_be_read(text: str) -> None:
    TypeAdapter(Percent).validate_python(text)
    assert 0 <= parse_percent(text) <= 1


@pytest.mark.parametrize("text", ["", "30", "10m1h", "1.5h"])
def test_what_is_no_duration_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a duration; write for example 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["5", "nan%", "101%", "x%", "-1%"])
def test_what_is_no_percentage_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not"):
        parse_percent(text)


def test_where_a_rollout_stands_is_read_also_from_a_newer_operators_status() -> None:
    phase = {"name": "dark", "type": "Dark", "budget": {"calls": 9, "tokens": 1}, "newer": {"a": 1}}
    stored = {"phase": phase, "enteredAt": "2026-01-01T00:00:00Z", "newer": True}
    progress = Progress.model_validate(stored)
    assert progress.phase == Phase(name="dark", type="Dark", budget=Budget(calls=9))


def test_what_a_user_writes_is_still_read_strictly() -> None:
    with pytest.raises(ValidationError, match="newer"):
        Strategy.model_validate({"phases": [{"name": "full", "type": "Full", "newer": 1}]})
