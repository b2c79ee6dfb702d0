"""The policy that an agent names, read in each pass and parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.errors import ClusterError, InvalidSpec
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control import kinds
from phasegate.control.parse import explain
from phasegate.control.ports import Cluster, Key, Manifest
from phasegate.control.prices import PriceBook
from phasegate.control.reads import Reads, find
from phasegate.engine.compiling import Context, compile_checks
from phasegate.engine.prices import PriceTable
from phasegate.rollout.judging import compile_context
from phasegate.rollout.observed import PolicySeen
from phasegate.rollout.reasons import Reason

REMEMBERED: Final = 1000
"""Policies that are remembered; many agents share one."""

_Version = tuple[str, str]


class Policies:
    """Reads RollbackPolicies. What was parsed is known by its version."""

    def __init__(self, prices: PriceBook | None = None) -> None:
        self._prices = prices
        self._parsed: dict[tuple[str, str], tuple[_Version, RollbackPolicySpec]] = {}
        self._usable: dict[Key, tuple[RollbackPolicySpec, Context]] = {}
        """What was compiled last for an agent; as long as it is the same, it can be."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._usable.pop(key, None)

    async def of(
        self, cluster: Cluster, key: Key, spec: AgentDeploymentSpec | None, reads: Reads
    ) -> PolicySeen:
        """The policy that `spec` names, or in a sentence why there is none to go by."""
        if spec is None or spec.policy_ref is None:
            return PolicySeen(None)
        what = f"RollbackPolicy {spec.policy_ref.name}"
        try:
            return await self._read(cluster, key, spec, spec.policy_ref.name)
        except ClusterError as error:
            reads.failed(what, error)
            problem = f"{what} cannot be read now: {error}"
            return PolicySeen(None, problem, Reason.READ_FAILED)

    async def _read(
        self, cluster: Cluster, key: Key, spec: AgentDeploymentSpec, name: str
    ) -> PolicySeen:
        manifest = await find(cluster, kinds.ROLLBACK_POLICY, key, name)
        if manifest is None:
            problem = (
                f"spec.policyRef.name: RollbackPolicy {name!r} does not exist in namespace "
                f"{key.namespace}; create it, or leave policyRef out for the default policy"
            )
            return PolicySeen(None, problem, Reason.POLICY_NOT_FOUND)
        try:
            policy = self._parse(key.namespace, manifest)
            prices = await self._prices.table() if self._prices is not None else None
            self._compile(key, policy, spec, prices)
        except ValidationError as error:
            words = explain(error, "spec")
        except InvalidSpec as error:
            unread = self._prices.problem if self._prices is not None else None
            words = f"{error}; {unread}" if unread else str(error)
        else:
            return PolicySeen(policy, prices=prices)
        return PolicySeen(None, f"RollbackPolicy {name}: {words}", Reason.POLICY_INVALID)

    def _parse(self, namespace: str, manifest: Manifest) -> RollbackPolicySpec:
        metadata: Mapping[str, Any] = manifest["metadata"]
        name, version = (
            (namespace, metadata["name"]),
            (metadata["uid"], metadata["resourceVersion"]),
        )
        known = self._parsed.pop(name, None)
        if known is None or known[0] != version:
            known = version, RollbackPolicySpec.model_validate(manifest.get("spec") or {})
        self._parsed[name] = known
        if len(self._parsed) > REMEMBERED:
            del self._parsed[next(iter(self._parsed))]
        return known[1]

    def _compile(
        self,
        key: Key,
        policy: RollbackPolicySpec,
        spec: AgentDeploymentSpec,
        prices: PriceTable | None,
    ) -> None:
        """Raises InvalidSpec if the policy cannot be compiled for this agent."""
        use = policy, compile_context(spec, prices)
        if self._usable.get(key) != use:
            compile_checks(*use)
            self._usable[key] = use
