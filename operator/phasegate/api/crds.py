"""The four kinds of Phasegate and their CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus
from phasegate.api.base import GROUP, MAX_AGENT_NAME, VERSION, Cel, SpecModel, StatusModel
from phasegate.api.rollbackpolicy import RollbackPolicySpec, RollbackPolicyStatus
from phasegate.api.rolloutaction import RolloutActionSpec, RolloutActionStatus
from phasegate.api.schema import Schema, structural_schema

CATEGORY = "phasegate"


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Shown with ``-o wide`` only."""

    def manifest(self) -> dict[str, Any]:
        """The column as an entry of ``additionalPrinterColumns``."""
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            **({"priority": 1} if self.wide else {}),
        }


@dataclass(frozen=True)
class CustomKind:
    """One kind: its names, models, and how it is shown."""

    kind: str
    plural: str
    short: str
    doc: str
    spec: type[SpecModel]
    status: type[StatusModel]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    rules: tuple[Cel, ...] = ()
    """Rules on the whole object, name included."""
    scale: Mapping[str, str] | None = None
    unseen: Mapping[str, int] | None = None
    """The status of an object that the operator has not seen yet. To kstatus, one without any is
    Current: whoever waits for a new agent would go on before anything runs."""


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_READY = '.status.conditions[?(@.type=="Ready")].status'
_WARNING = '.status.conditions[?(@.type=="EarlyWarning")].status'

AGENT_DEPLOYMENT = CustomKind(
    kind="AgentDeployment",
    plural="agentdeployments",
    short="agentdep",
    doc="Which AI agent should run, and how a new revision of it gets its traffic.",
    spec=AgentDeploymentSpec,
    status=AgentDeploymentStatus,
    columns=(
        Column("Phase", ".status.phase"),
        Column("Step", ".status.step"),
        Column("Stable", ".status.stableRevision"),
        Column("Candidate", ".status.candidateRevision"),
        Column("Weight", ".status.weight", "integer"),
        Column("Ready", _READY),
        Column("Message", ".status.message"),
        Column("Warning", _WARNING, wide=True),
        Column("Pods", ".status.readyReplicas", "integer", wide=True),
        Column("Policy", ".spec.policyRef.name", wide=True),
        Column("Rollout", ".status.currentRollout", wide=True),
        _AGE,
    ),
    selectable=(".status.phase", ".spec.exposure", ".spec.policyRef.name"),
    rules=(
        Cel(
            f"self.metadata.name.size() <= {MAX_AGENT_NAME}",
            f"must be at most {MAX_AGENT_NAME} characters long: the operator makes "
            "objects named <name>-<revision>-shadow, and labels hold 63",
            ".metadata.name",
        ),
        Cel(
            f"self.metadata.name.size() > {MAX_AGENT_NAME}"
            " || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "must consist of lower-case letters, digits and '-', and start with a "
            "letter: a Service gets this name",
            ".metadata.name",
        ),
    ),
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
    unseen={"observedGeneration": -1},
)

ROLLBACK_POLICY = CustomKind(
    kind="RollbackPolicy",
    plural="rollbackpolicies",
    short="rbp",
    doc="What is not acceptable of an agent: metrics, gates, alerts and rollback triggers.",
    spec=RollbackPolicySpec,
    status=RollbackPolicyStatus,
    columns=(
        Column("Source", ".spec.source"),
        Column("Prometheus", ".spec.prometheus"),
        Column("Metrics", ".spec.metrics[*].name"),
        Column("Ready", _READY),
        _AGE,
    ),
)

AGENT_ROLLOUT = CustomKind(
    kind="AgentRollout",
    plural="agentrollouts",
    short="agr",
    doc="One attempt to take one revision of an agent through the phases; the operator writes it.",
    spec=AgentRolloutSpec,
    status=AgentRolloutStatus,
    columns=(
        Column("Agent", ".spec.agent"),
        Column("Revision", ".spec.revision"),
        Column("From", ".spec.fromRevision"),
        Column("Phase", ".status.phase"),
        Column("Message", ".status.message"),
        _AGE,
    ),
    selectable=(".spec.agent", ".spec.revision", ".status.phase"),
)

ROLLOUT_ACTION = CustomKind(
    kind="RolloutAction",
    plural="rolloutactions",
    short="ra",
    doc="One human decision about one revision of an agent; who took it is enforced.",
    spec=RolloutActionSpec,
    status=RolloutActionStatus,
    columns=(
        Column("Agent", ".spec.agent"),
        Column("Verb", ".spec.verb"),
        Column("Revision", ".spec.revision"),
        Column("Actor", ".spec.actor"),
        Column("Outcome", ".status.outcome"),
        Column("Reason", ".spec.reason"),
        Column("Message", ".status.message", wide=True),
        _AGE,
    ),
    selectable=(".spec.agent", ".spec.verb", ".status.outcome"),
)

KINDS = (AGENT_DEPLOYMENT, ROLLBACK_POLICY, AGENT_ROLLOUT, ROLLOUT_ACTION)


def crd(kind: CustomKind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind; raises NotStructural."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "phasegate"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [_version(kind)],
        },
    }


def _version(kind: CustomKind) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.manifest() for column in kind.columns],
        "subresources": {"status": {}, **({"scale": dict(kind.scale)} if kind.scale else {})},
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return version


def _object_schema(kind: CustomKind) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": kind.doc,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural_schema(kind.spec),
            "status": structural_schema(kind.status),
        },
    }
    if kind.unseen:
        schema["properties"]["status"]["default"] = dict(kind.unseen)
    if kind.rules:
        schema["x-kubernetes-validations"] = [rule.keywords() for rule in kind.rules]
    return schema
