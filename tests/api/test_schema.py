"""Models become structural schemas, or the generation says where they cannot."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

import pytest
from phasegate.api.base import Cel, Duration, Name, Notation, SpecModel, StatusModel, list_map
from phasegate.api.schema import NotStructural, structural_schema
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

Text = Annotated[str, StringConstraints(max_length=10)]


class Inner(SpecModel):
    """An inner thing."""

    name: Name
    size: Annotated[int, Field(gt=0)] = 1


class Outer(SpecModel):
    """An outer thing."""

    inner: Inner | None = None
    """What is inside."""
    many: Annotated[tuple[Inner, ...], Field(max_length=3), list_map("name")] = ()
    labels: Annotated[
        dict[Annotated[str, StringConstraints(min_length=1, max_length=5)], Text],
        Field(max_length=4),
    ] = Field(default_factory=dict)
    only: Literal["this"] = "this"
    wait: Duration = "5s"
    at: AwareDatetime | None = None

    cel: ClassVar[tuple[Cel, ...]] = (Cel("has(self.inner)", "needs its inside", ".inner"),)


def of(annotation: Any) -> type[SpecModel]:
    """A model with one required field of this type."""
    model: type[SpecModel] = type(
        "Made", (SpecModel,), {"__annotations__": {"field": annotation}, "__module__": __name__}
    )
    return model


@pytest.fixture(scope="module")
def outer() -> dict[str, Any]:
    return structural_schema(Outer)


def test_references_are_written_out_with_the_fields_own_description(outer: dict[str, Any]) -> None:
    inner = outer["properties"]["inner"]
    assert inner["type"] == "object"
    assert inner["description"] == "What is inside."
    assert inner["required"] == ["name"]


def test_optional_means_left_out_and_never_null(outer: dict[str, Any]) -> None:
    assert outer["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert "required" not in outer


def test_a_single_literal_is_an_enum_because_const_is_not_enforced(outer: dict[str, Any]) -> None:
    assert outer["properties"]["only"] == {"type": "string", "enum": ["this"], "default": "this"}


def test_integers_have_64_bits_and_exclusive_bounds_are_flags(outer: dict[str, Any]) -> None:
    assert outer["properties"]["inner"]["properties"]["size"] == {
        "type": "integer",
        "format": "int64",
        "default": 1,
        "minimum": 0,
        "exclusiveMinimum": True,
    }


def test_keys_of_lists_and_maps_are_kept(outer: dict[str, Any]) -> None:
    many, labels = outer["properties"]["many"], outer["properties"]["labels"]
    assert many["x-kubernetes-list-type"] == "map"
    assert many["x-kubernetes-list-map-keys"] == ["name"]
    assert many["maxItems"] == 3
    assert labels["maxProperties"] == 4
    assert labels["x-kubernetes-validations"] == [
        {
            "rule": "self.all(key, key.size() >= 1 && key.size() <= 5)",
            "message": "keys must be 1 to 5 characters long",
        }
    ]


def test_rules_of_models_and_notations_are_carried_over(outer: dict[str, Any]) -> None:
    assert outer["x-kubernetes-validations"] == [
        {"rule": "has(self.inner)", "message": "needs its inside", "fieldPath": ".inner"}
    ]
    wait = outer["properties"]["wait"]
    assert wait["x-kubernetes-int-or-string"] is True
    assert "type" not in wait
    assert "write 30s" in wait["x-kubernetes-validations"][0]["message"]


def test_only_static_scalars_are_defaults(outer: dict[str, Any]) -> None:
    with_default = {name for name, field in outer["properties"].items() if "default" in field}
    assert with_default == {"only", "wait"}


def test_a_status_has_neither_defaults_nor_rules() -> None:
    class Seen(StatusModel):
        outer: Outer
        count: int = 0

    text = str(structural_schema(Seen))
    assert "default" not in text
    assert "validations" not in text


class Recursive(SpecModel):
    child: Recursive | None = None


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (str, "Made.field: has no maxLength"),
        (tuple[Text, ...], "Made.field: has no maxItems"),
        (dict[str, Text], "Made.field: has no maxProperties"),
        (Annotated[tuple[str, ...], Field(max_length=2)], "Made.field[]: has no maxLength"),
        (Annotated[dict[str, str], Field(max_length=2)], "Made.field{}: has no maxLength"),
        (float, "is a float; write it as a string"),
        (Any, "Made.field: has no type"),
        (int | Text, "Made.field: anyOf cannot be said"),
        (Annotated[set[Text], Field(max_length=2)], "uniqueItems cannot be said"),
        (Annotated[int, Field(multiple_of=2)], "multipleOf cannot be said"),
        (tuple[Text, Text], "prefixItems cannot be said"),
        (Annotated[str, StringConstraints(max_length=9), Field(examples=["a"])], "examples cannot"),
    ],
)
def test_what_cannot_be_said_ends_the_generation_with_its_place(
    annotation: Any, complaint: str
) -> None:
    with pytest.raises(NotStructural, match=re.escape(complaint)):
        structural_schema(of(annotation))


def test_a_recursive_model_is_refused() -> None:
    with pytest.raises(NotStructural, match="Recursive contains itself"):
        structural_schema(Recursive)


def test_a_formatted_duration_is_not_taken_for_checked() -> None:
    # `format: duration` is stored unchecked by the API server.
    with pytest.raises(NotStructural, match="the format duration is not enforced"):
        structural_schema(of(timedelta))


@pytest.mark.parametrize("text", ["", "a\n", "A", "a-"])
def test_a_notation_matches_the_whole_text_and_says_its_sentence(text: str) -> None:
    notation = Notation("[a-z]([-a-z]*[a-z])?", "must be lower case")
    with pytest.raises(ValueError, match="must be lower case"):
        notation.check(text)


def test_unknown_fields_are_refused_in_specs_and_ignored_in_statuses() -> None:
    class Seen(StatusModel):
        count: int = 0

    assert Seen.model_validate({"count": 1, "newer": True}) == Seen(count=1)
    with pytest.raises(ValidationError, match="newer"):
        Inner.model_validate({"name": "a", "newer": True})
