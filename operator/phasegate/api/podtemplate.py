"""The pod template of an AgentDeployment, as far as the API server is told about it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

_OBJECT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXT = {"type": "string", "minLength": 1}
#: A pod template is checked by the API server itself, in a dry run of the Deployment; only what
#: nothing can run without is asked for here.
PodTemplate = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            **_OBJECT,
            "required": ["spec"],
            "properties": {
                "spec": {
                    **_OBJECT,
                    "required": ["containers"],
                    "properties": {
                        "containers": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 32,
                            "items": {
                                **_OBJECT,
                                "required": ["name", "image"],
                                "properties": {
                                    "name": {**_TEXT, "maxLength": 63},
                                    "image": {**_TEXT, "maxLength": 4096},
                                },
                            },
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                        }
                    },
                }
            },
        }
    ),
]
