"""Is anybody's identity enforced? Looked up at the API server, never assumed.

A RolloutAction says who decided; that is worth something only while the API server refuses
RolloutActions in another's name. The policies that do so are shipped in ``config/admission``; when
one is missing, weakened or not bound, no action is accepted, and the reason is said.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phasegate.api.errors import ClusterError, NotFound
from phasegate.control import kinds
from phasegate.control.ports import Clock, Cluster, Kind, Manifest

CACHED_SECONDS = 30.0
UNKNOWN = "the admission policies cannot be read now"
"""Nobody can tell whether identity is enforced: decisions wait, for they could be forged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequiredPolicy:
    """A ValidatingAdmissionPolicy and its binding (of the same name), and what it must check."""

    name: str
    resource: str
    operation: str
    expressions: tuple[str, ...]
    """CEL expressions that must be among its validations, white space aside."""


REQUIRED: tuple[RequiredPolicy, ...] = (
    RequiredPolicy(
        name="phasegate-rolloutactions",
        resource="rolloutactions",
        operation="CREATE",
        expressions=(
            "object.spec.actor == request.userInfo.username",
            "!has(object.spec.actorGroups) || "
            "object.spec.actorGroups.all(g, g in request.userInfo.groups)",
            "authorizer.group('phasegate.dev').resource('agentdeployments')"
            ".namespace(request.namespace).name(object.spec.agent)"
            ".check(object.spec.verb.lowerAscii()).allowed()",
        ),
    ),
)


class IdentityCheck:
    """Looks at the admission policies, at most once every `CACHED_SECONDS`."""

    def __init__(
        self, cluster: Cluster, clock: Clock, required: Sequence[RequiredPolicy] = REQUIRED
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._required = required
        self._known: tuple[float, str | None] | None = None

    async def problem(self) -> str | None:
        """Why identity is not enforced, in a sentence; None if it is, UNKNOWN if nobody can tell now."""
        now = self._clock.monotonic()
        if self._known is None or now - self._known[0] >= CACHED_SECONDS:
            try:
                self._known = (now, await self._look())
            except ClusterError as error:
                _log.warning("admission policies cannot be read", extra={"error": str(error)})
                return UNKNOWN
        return self._known[1]

    async def _look(self) -> str | None:
        for required in self._required:
            policy = await self._find(kinds.ADMISSION_POLICY, required.name)
            binding = await self._find(kinds.ADMISSION_BINDING, required.name)
            problem = weakness(required, policy, binding)
            if problem is not None:
                return f"{problem}; apply config/admission"
        return None

    async def _find(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self._cluster.get(kind, None, name)
        except NotFound:
            return None


def weakness(
    required: RequiredPolicy, policy: Manifest | None, binding: Manifest | None
) -> str | None:
    """Why this policy with this binding does not enforce what is required; None if it does."""
    named = f"ValidatingAdmissionPolicy {required.name}"
    if policy is None:
        return f"{named} does not exist"
    if binding is None:
        return f"{named} has no binding of its name"
    spec: Mapping[str, Any] = policy.get("spec") or {}
    bound: Mapping[str, Any] = binding.get("spec") or {}
    if spec.get("failurePolicy", "Fail") != "Fail":
        return f"{named} lets requests through when it fails"
    if spec.get("matchConditions"):
        return f"{named} has matchConditions, so it does not look at every request"
    if not _covers(spec.get("matchConstraints") or {}, required):
        return f"{named} does not look at every {required.operation} of {required.resource}"
    present = {_plain(v.get("expression", "")) for v in spec.get("validations") or ()}
    for expression in required.expressions:
        if _plain(expression) not in present:
            return f"{named} does not check {expression!r}"
    if bound.get("policyName") != required.name or bound.get("matchResources"):
        return f"the binding of {named} does not bind it everywhere"
    if "Deny" not in (bound.get("validationActions") or ()):
        return f"the binding of {named} does not deny"
    return None


def _covers(constraints: Mapping[str, Any], required: RequiredPolicy) -> bool:
    if constraints.get("namespaceSelector") or constraints.get("objectSelector"):
        return False
    if constraints.get("excludeResourceRules"):
        return False
    return any(
        {"*", required.resource} & set(rule.get("resources") or ())
        and {"*", "phasegate.dev"} & set(rule.get("apiGroups") or ())
        and {"*", required.operation} & set(rule.get("operations") or ())
        and not rule.get("resourceNames")
        for rule in constraints.get("resourceRules") or ()
    )


def _plain(expression: str) -> str:
    return "".join(expression.split())
