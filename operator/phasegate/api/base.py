"""Building blocks of the API models: base classes, bounded strings, conditions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

GROUP = "phasegate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
#: Longest name of an AgentDeployment: ``<name>-<hash>-shadow`` has to fit a label of 63 characters.
MAX_AGENT_NAME = 40
MAX_MESSAGE = 2048


class Cel(NamedTuple):
    """One CEL rule of a model: the rule, the sentence a user sees, and the field it is about."""

    rule: str
    message: str
    field: str = ""
    """Relative to the model, as ``.agent.sideEffects``; empty for the model itself."""
    message_expression: str = ""
    """CEL that yields the sentence where it should quote what was written."""

    def keywords(self) -> dict[str, str]:
        """The rule as an entry of ``x-kubernetes-validations``."""
        entry = {
            "rule": self.rule,
            "message": self.message,
            "messageExpression": self.message_expression,
            "fieldPath": self.field,
        }
        return {key: value for key, value in entry.items() if value}


@dataclass(frozen=True)
class Notation:
    """A string in a certain notation, refused with a sentence instead of a regular expression.

    The pattern must mean the same in Python and RE2, and match the whole string. ``numeric`` is for
    notations that YAML reads as an integer when somebody forgets the unit or the quotes: the schema
    then lets an integer as far as the rule, whose sentence says more than "must be of type string".
    """

    pattern: str
    sentence: str
    numeric: bool = False

    def check(self, text: str) -> str:
        """The text itself; raises ValueError with the sentence."""
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(f"{text!r}: {self.sentence}")
        return text

    def matches(self, path: str) -> str:
        """CEL: the value at this path is in the notation."""
        quote = '"' if "'" in self.pattern else "'"
        match = f"{path}.matches(r{quote}^({self.pattern})${quote})"
        return f"type({path}) == string && {match}" if self.numeric else match

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        json = dict(handler(schema))
        json["x-kubernetes-validations"] = [Cel(self.matches("self"), self.sentence).keywords()]
        if self.numeric:
            del json["type"]
            json["x-kubernetes-int-or-string"] = True
        return json


@dataclass(frozen=True)
class Keywords:
    """Adds Kubernetes' own keywords to a field's schema; parsing does not change."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self.keywords}


def list_map(*keys: str) -> Keywords:
    """A list whose entries are told apart by these keys: unique, and merged one by one on apply."""
    return Keywords({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


def list_set() -> Keywords:
    """A list of unique scalars."""
    return Keywords({"x-kubernetes-list-type": "set"})


def list_atomic() -> Keywords:
    """A list that is replaced as a whole."""
    return Keywords({"x-kubernetes-list-type": "atomic"})


class SpecModel(BaseModel):
    """What a user writes: immutable, unknown fields are mistakes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )
    cel: ClassVar[tuple[Cel, ...]] = ()


class StatusModel(BaseModel):
    """What the operator writes: immutable, fields of newer versions are ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )
    cel: ClassVar[tuple[Cel, ...]] = ()


class KeptModel(StatusModel):
    """Part of a record that is proven by a hash: fields of newer versions are kept, not dropped."""

    model_config = ConfigDict(extra="allow")


def lenient(model: type[BaseModel]) -> BeforeValidator:
    """For a part of a spec that is kept in a status: fields of newer versions are left out.

    What users write is read strictly; what another version of the operator wrote must never make
    this one forget where a rollout stands.
    """
    return BeforeValidator(lambda value: _known(model, value))


def _known(model: type[BaseModel], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    found = {}
    for name, field in model.model_fields.items():
        for key in {name, field.alias or name} & value.keys():
            inner = [t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)]
            found[key] = _known(inner[0], value[key]) if inner else value[key]
    return found


def _is_model(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, BaseModel)


def _shorten(text: Any) -> Any:
    """A sentence that is too long loses its end: it must never keep a status from being written."""
    if isinstance(text, str) and len(text) > MAX_MESSAGE:
        return text[: MAX_MESSAGE - 1] + "…"
    return text


def _duration(units: str) -> str:
    """Counts with these units in this order, at least one of them; RE2 has no look-ahead."""
    return "|".join(
        f"[0-9]{{1,5}}{unit}" + "".join(f"([0-9]{{1,5}}{rest})?" for rest in units[at + 1 :])
        for at, unit in enumerate(units)
    )


LABEL = Notation(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
    "must consist of lower-case letters, digits and '-', and start and end with a letter or digit",
)
OBJECT_NAME = Notation(
    r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?",
    "must be the name of an object: lower-case letters, digits, '-' and '.', not empty",
)
DURATION = Notation(
    _duration("hms"),
    "must be a duration in hours, minutes and seconds, such as 48h, 10m or 1h30m: "
    "write 30s for thirty seconds, not 30",
    numeric=True,
)
LONG_DURATION = Notation(
    _duration("dhms"),
    "must be a duration with its unit, such as 30m, 24h or 30d: write 24h for a day, not 24",
    numeric=True,
)
PERCENT = Notation(
    r"(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%",
    "must be a percentage from 0% to 100%, such as 5% or 0.5%: write 5%, not 5 and not 0.05",
    numeric=True,
)
NUMBER = Notation(
    r"[0-9]{1,12}(\.[0-9]{1,6})?",
    "must be a number in quotes, such as '1.5'",
    numeric=True,
)
FACTOR = Notation(
    r"[0-9]{1,4}(\.[0-9]{1,4})?",
    "must be a factor in quotes, such as '1.5' for half as much again",
    numeric=True,
)
LATENCY = Notation(
    r"[0-9]{1,7}ms|[0-9]{1,5}(\.[0-9]{1,3})?s|[0-9]{1,4}m([0-9]{1,2}s)?",
    "must be a duration such as 800ms, 3s, 2.5s or 1m30s: write 3s for three seconds, not 3",
    numeric=True,
)
LIMIT = Notation(
    rf"{PERCENT.pattern}|{NUMBER.pattern}|{LATENCY.pattern}",
    "must be a percentage such as 5%, for a latency a duration such as 800ms or 3s, or "
    "otherwise a number in quotes such as '250'",
    numeric=True,
)

Name = Annotated[str, StringConstraints(max_length=63), LABEL]
ObjectName = Annotated[str, StringConstraints(max_length=253), OBJECT_NAME]
ShortText = Annotated[str, StringConstraints(max_length=256)]
Message = Annotated[str, BeforeValidator(_shorten), StringConstraints(max_length=MAX_MESSAGE)]
Person = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Hash = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{10}$", max_length=10)]
Digest = Annotated[
    str,
    StringConstraints(max_length=71),
    Notation(r"sha256:[a-f0-9]{64}", "must be a digest: sha256: and 64 hexadecimal digits"),
]

#: Go-style duration that CEL's ``duration()`` understands as well: ``30s``, ``1h30m``.
Duration = Annotated[str, StringConstraints(max_length=18), DURATION]
#: Duration that may also be given in days, where no CEL rule has to compare it: ``30d``.
LongDuration = Annotated[str, StringConstraints(max_length=24), LONG_DURATION]
Percent = Annotated[str, StringConstraints(max_length=9), PERCENT]
Factor = Annotated[str, StringConstraints(max_length=9), FACTOR]
Number = Annotated[str, StringConstraints(max_length=19), NUMBER]
#: A percentage, a plain number, or the time an answer takes.
Limit = Annotated[str, StringConstraints(max_length=19), LIMIT]

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(StatusModel):
    """One observation about an object, in the shape Kubernetes tools expect."""

    type: ShortText
    status: ConditionStatus
    reason: ShortText
    message: Message = ""
    observed_generation: int = Field(default=0, ge=0)
    last_transition_time: AwareDatetime


class Meta(NamedTuple):
    """The part of ``metadata`` the pure core needs."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleted: datetime | None = None
    finalizers: tuple[str, ...] = ()
