"""pydantic models → structural schemas, as CustomResourceDefinitions need them.

What the API server would refuse, or take and then silently not enforce, ends the generation here:
no keyword that is not structural, no string, list or map without a bound (bounds are also what
keeps the estimated cost of the CEL rules within the API server's budget).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from phasegate.api.base import Cel, SpecModel, StatusModel
from phasegate.api.errors import PhasegateError

Schema = dict[str, Any]

#: What a structural schema may say, in the order in which it is written.
_KEYWORDS = re.findall(
    r"\S+",
    """
    description type format enum pattern default nullable
    minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength
    minItems maxItems minProperties maxProperties
    x-kubernetes-int-or-string x-kubernetes-list-type x-kubernetes-list-map-keys
    x-kubernetes-map-type x-kubernetes-preserve-unknown-fields x-kubernetes-validations
    required properties items additionalProperties
    """,
)
_BOUNDS = {"string": "maxLength", "array": "maxItems"}


class NotStructural(PhasegateError):
    """A model says something that a CustomResourceDefinition cannot; the message says where."""


class StructuralSchema(GenerateJsonSchema):
    """pydantic's generator, with what Kubernetes writes differently."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Optional means: may be left out. A null is never stored."""
        return self.generate_inner(schema["schema"])

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """``const`` is accepted by the API server and not enforced; ``enum`` is."""
        json = super().literal_schema(schema)
        if "const" in json:
            json["enum"] = [json.pop("const")]
        return json

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Integers of a Kubernetes API have 64 bits; exclusive bounds are flags."""
        json = super().int_schema(schema)
        for side in ("minimum", "maximum"):
            exclusive = f"exclusive{side.capitalize()}"
            if exclusive in json:
                json[side] = json[exclusive]
                json[exclusive] = True
        return {**json, "format": "int64"}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """A map; bounds of its keys become a rule, as ``propertyNames`` is not structural."""
        json = super().dict_schema(schema)
        names = json.pop("propertyNames", {})
        low, high = names.get("minLength", 0), names.get("maxLength")
        if high is not None:
            rule = f"self.all(key, key.size() >= {low} && key.size() <= {high})"
            message = f"keys must be {low} to {high} characters long"
            json["x-kubernetes-validations"] = [Cel(rule, message).keywords()]
        return json

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """An object with the model's rules; unknown fields are the server's business (pruning)."""
        json = super().model_schema(schema)
        json.pop("additionalProperties", None)
        json.setdefault("properties", {})
        model = schema["cls"]
        if issubclass(model, SpecModel | StatusModel) and model.cel:
            json["x-kubernetes-validations"] = [rule.keywords() for rule in model.cel]
        return json


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model.

    A status is written by the operator from these very models, so it gets neither defaults, which
    would come back as changes nobody made, nor rules, whose cost every write would pay.
    Raises NotStructural.
    """
    json = model.model_json_schema(schema_generator=StructuralSchema)
    schema = _clean(json, cast(Schema, json.get("$defs", {})))
    if issubclass(model, StatusModel):
        schema = _without(schema, "default", "x-kubernetes-validations")
    problems = list(_problems(schema, model.__name__))
    if problems:
        raise NotStructural("; ".join(problems))
    return schema


def _clean(
    json: Mapping[str, Any], definitions: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Schema:
    """Without references, titles, and defaults that are not scalars (the operator has those)."""
    if "$ref" in json:
        name = json["$ref"].removeprefix("#/$defs/")
        if name in above:
            raise NotStructural(f"{name} contains itself; a structural schema has an end")
        json = {**definitions[name], **json}
        above = (*above, name)
    schema: Schema = {}
    for key in sorted(json, key=lambda key: _KEYWORDS.index(key) if key in _KEYWORDS else -1):
        value = json[key]
        if key in ("title", "$defs", "$ref") or (
            key == "default" and not isinstance(value, str | int)
        ):
            continue
        if key == "properties":
            schema[key] = {name: _clean(child, definitions, above) for name, child in value.items()}
        elif isinstance(value, dict) and key in ("items", "additionalProperties"):
            schema[key] = _clean(value, definitions, above)
        else:
            schema[key] = list(value) if isinstance(value, list) else value
    return schema


def _without(schema: Schema, *keywords: str) -> Schema:
    """The schema and all its parts without these keywords."""
    kept = {key: value for key, value in schema.items() if key not in keywords}
    if "properties" in kept:
        kept["properties"] = {k: _without(v, *keywords) for k, v in kept["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _without(kept[key], *keywords)
    return kept


def _problems(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    """What the API server would refuse or not enforce, each with its place."""
    if unknown := sorted(set(schema) - set(_KEYWORDS)):
        yield f"{at}: {', '.join(unknown)} cannot be said in a structural schema"
    yield from _untyped(schema, at)
    yield from _unbounded(schema, at)
    if schema.get("additionalProperties") and schema.get("properties"):
        yield f"{at}: properties and additionalProperties exclude each other"
    for name, child in schema.get("properties", {}).items():
        yield from _problems(child, f"{at}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from _problems(schema[key], at + mark)


def _untyped(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
        yield f"{at}: has no type"
    if schema.get("type") == "number":
        yield f"{at}: is a float; write it as a string"
    if schema.get("format", "int64") not in ("int64", "date-time"):
        yield f"{at}: the format {schema['format']} is not enforced"
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{at}: does not say what its items are"


def _unbounded(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    kind = "string" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    bound = _BOUNDS.get(kind)
    if kind == "object" and "additionalProperties" in schema:
        bound = "maxProperties"
    if bound and bound not in schema and not {"enum", "format"} & set(schema):
        yield f"{at}: has no {bound}"
