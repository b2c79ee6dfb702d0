"""Manifests as users keep them in files. Every mistake is a sentence that names file and field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.base import API_VERSION
from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control.parse import explain
from phasegate.control.ports import Key

Json = dict[str, Any]
_Spec = TypeVar("_Spec", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Written:
    """An AgentDeployment as it is written, and the policy that goes with it."""

    key: Key
    spec: AgentDeploymentSpec
    policy: RollbackPolicySpec | None
    """None: it names none, or not one that was found."""
    policy_name: str | None


def read_agent(path: Path, policy: Path | None, namespace: str | None) -> Written:
    """The agent of a file; its policy from another file, or from the same. Raises InvalidSpec."""
    documents = read_documents(path)
    agents = _of_kind(documents, "AgentDeployment")
    if len(agents) != 1:
        raise InvalidSpec(f"{path}: has {len(agents)} AgentDeployments; one is needed")
    metadata = _metadata(agents[0])
    name = str(metadata.get("name") or "")
    if not name:
        raise InvalidSpec(f"{path}: metadata.name: the agent needs a name")
    spec = _spec(AgentDeploymentSpec, agents[0], path)
    wanted = spec.policy_ref.name if spec.policy_ref is not None else None
    key = Key(namespace or str(metadata.get("namespace") or "default"), name)
    if policy is not None:
        return Written(key, spec, read_policy(policy, wanted), wanted)
    beside = [p for p in _of_kind(documents, "RollbackPolicy") if _name(p) == wanted]
    found = _spec(RollbackPolicySpec, beside[0], path) if beside else None
    return Written(key, spec, found, wanted)


def read_policy(path: Path, wanted: str | None = None) -> RollbackPolicySpec:
    """The policy of a file: its only one, or the one of that name. Raises InvalidSpec."""
    policies = _of_kind(read_documents(path), "RollbackPolicy")
    named = [policy for policy in policies if _name(policy) == wanted]
    chosen = named or policies
    if len(chosen) != 1:
        names = ", ".join(map(_name, policies)) or "none"
        raise InvalidSpec(f"{path}: one RollbackPolicy is needed; it has: {names}")
    return _spec(RollbackPolicySpec, chosen[0], path)


def read_documents(path: Path) -> list[Json]:
    """The objects of a YAML or JSON file. Raises InvalidSpec."""
    try:
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-01
        raise InvalidSpec(f"{path}: is not YAML: {error}") from error
    found: list[Json] = []
    for document in documents:
        if isinstance(document, dict):
            items = document.get("items")
            found += (
                [i for i in items if isinstance(i, dict)] if isinstance(items, list) else [document]
            )
        elif document is not None:
            raise InvalidSpec(f"{path}: holds something that is no Kubernetes object")
    return found


def _of_kind(documents: Iterable[Json], kind: str) -> list[Json]:
    return [d for d in documents if d.get("kind") == kind and d.get("apiVersion") == API_VERSION]


def _metadata(document: Json) -> Json:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _name(document: Json) -> str:
    return str(_metadata(document).get("name") or "")


def _spec(model: type[_Spec], document: Json, path: Path) -> _Spec:
    try:
        return model.model_validate(document.get("spec") or {})
    except ValidationError as error:
        raise InvalidSpec(f"{path}: {explain(error, 'spec')}") from error
