"""The Gateway API's and Envoy Gateway's CRDs, in a form that a fresh API server takes quickly.

As they are shipped, they are 5 MB of YAML, most of it descriptions, and `kubectl apply` of it takes
6 s. Without descriptions, as JSON, created all at once, they take a second or two.
"""

from __future__ import annotations

import json
import os
from typing import Any

import yaml

from lab.parts.build import Parts

Json = dict[str, Any]


def load(parts: Parts) -> list[Json]:
    """All CRDs; converted at the first call, from then on read from beside the parts."""
    cache = parts.dir / "crds.json"
    try:
        converted: list[Json] = json.loads(cache.read_text())
    except FileNotFoundError:
        converted = [_convert(file.read_text()) for file in sorted(parts.crds.glob("*.yaml"))]
        unfinished = cache.with_name(f".{cache.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(converted))
        unfinished.rename(cache)
    return converted


def _convert(text: str) -> Json:
    crd: Json = yaml.load(text, Loader=yaml.CSafeLoader)  # the plain one takes half a minute
    for version in crd["spec"]["versions"]:
        _strip(version["schema"]["openAPIV3Schema"])
    return crd


def _strip(schema: Json) -> None:
    """Take the description out of a schema and of all the schemas in it."""
    schema.pop("description", None)
    for key in ("properties", "patternProperties"):
        for child in schema.get(key, {}).values():
            _strip(child)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            _strip(schema[key])
    for key in ("allOf", "anyOf", "oneOf"):
        for child in schema.get(key, ()):
            _strip(child)
