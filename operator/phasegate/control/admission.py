"""Is anybody's identity enforced? Looked up at the API server, never assumed.

A RolloutAction says who decided; that is worth something only while the API server refuses
RolloutActions in another's name. The policies that do so are shipped in ``config/admission``; when
one is missing, weakened or not bound, no action is accepted, and the reason is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phasegate.api.errors import ClusterError, NotFound
from phasegate.control import kinds
from phasegate.control.ports import Clock, Cluster, Kind, Manifest

CACHED_SECONDS = 30.0
EVERY = 30.0
"""Seconds between two looks while nobody decides anything."""
UNKNOWN = "the admission policies cannot be read now"
"""Nobody can tell whether identity is enforced: decisions wait, for they could be forged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequiredPolicy:
    """A ValidatingAdmissionPolicy and its binding (of the same name), and what it must check."""

    name: str
    resource: str
    operations: tuple[str, ...]
    expressions: tuple[str, ...]
    """CEL expressions that must be among its validations, white space aside."""


REQUIRED: tuple[RequiredPolicy, ...] = (
    RequiredPolicy(
        name="phasegate-rolloutactions",
        resource="rolloutactions",
        operations=("CREATE",),
        expressions=(
            "object.spec.actor == request.userInfo.username",
            "!has(object.spec.actorGroups) || "
            "object.spec.actorGroups.all(g, g in request.userInfo.groups)",
            "authorizer.group('phasegate.dev').resource('agentdeployments')"
            ".namespace(request.namespace).name(object.spec.agent)"
            ".check(object.spec.verb.lowerAscii()).allowed()",
        ),
    ),
    RequiredPolicy(
        name="phasegate-authors",
        resource="agentdeployments",
        operations=("CREATE", "UPDATE"),
        expressions=(
            "!has(object.spec.author) || object.spec.author == request.userInfo.username || "
            "(request.operation == 'UPDATE' && "
            "has(oldObject.spec.author) && object.spec.author == oldObject.spec.author && "
            "object.spec.template == oldObject.spec.template && "
            "object.spec.service == oldObject.spec.service && "
            "has(object.spec.agent) == has(oldObject.spec.agent) && "
            "(!has(object.spec.agent) || object.spec.agent == oldObject.spec.agent)) || "
            "authorizer.group('phasegate.dev').resource('agentdeployments')"
            ".namespace(request.namespace).name(object.metadata.name)"
            ".check('author-for-others').allowed()",
        ),
    ),
)
"""Who decides is who says so, and so is who wrote what they decide about."""


class IdentityCheck:
    """Looks at the admission policies, at most once every `CACHED_SECONDS`."""

    def __init__(
        self, cluster: Cluster, clock: Clock, required: Sequence[RequiredPolicy] = REQUIRED
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._required = required
        self._known: tuple[float, str | None] | None = None

    @property
    def enforced(self) -> bool | None:
        """Whether identity is enforced, as far as is known; None before the first look."""
        return None if self._known is None else self._known[1] is None

    @property
    def known_problem(self) -> str | None:
        """What the last look found, without another one."""
        return None if self._known is None else self._known[1]

    async def watch(self) -> None:
        """Look from time to time, so that a hole is told before somebody decides; until cancelled."""
        while True:
            before = self.enforced
            await self.problem()
            if self.enforced is False and before is not False:
                problem = self.known_problem
                _log.error("no person's decision is accepted", extra={"problem": problem})
            elif self.enforced and before is False:
                _log.info("identity is enforced again: people's decisions are accepted")
            await self._clock.sleep(EVERY)

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
        problems = await asyncio.gather(*(self._weakness(one) for one in self._required))
        problem = next((one for one in problems if one is not None), None)
        return None if problem is None else f"{problem}; apply config/admission"

    async def _weakness(self, required: RequiredPolicy) -> str | None:
        policy, binding = await asyncio.gather(
            self._find(kinds.ADMISSION_POLICY, required.name),
            self._find(kinds.ADMISSION_BINDING, required.name),
        )
        return weakness(required, policy, binding)

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
    if spec.get("matchConditions") or spec.get("paramKind"):
        return f"{named} has matchConditions or parameters, so it does not look at every request"
    unseen = _unseen(spec.get("matchConstraints") or {}, required)
    if unseen is not None:
        return f"{named} does not look at every {unseen} of {required.resource}"
    present = {_plain(v.get("expression", "")) for v in spec.get("validations") or ()}
    for expression in required.expressions:
        if _plain(expression) not in present:
            return f"{named} does not check {expression!r}"
    if bound.get("policyName") != required.name or bound.get("matchResources"):
        return f"the binding of {named} does not bind it everywhere"
    if "Deny" not in (bound.get("validationActions") or ()):
        return f"the binding of {named} does not deny"
    return None


def _unseen(constraints: Mapping[str, Any], required: RequiredPolicy) -> str | None:
    """The first operation that the policy does not look at."""
    resource, operations = required.resource, required.operations
    return next((o for o in operations if not _covers(constraints, resource, o)), None)


def _covers(constraints: Mapping[str, Any], resource: str, operation: str) -> bool:
    if constraints.get("namespaceSelector") or constraints.get("objectSelector"):
        return False
    if constraints.get("excludeResourceRules"):
        return False
    return any(
        {"*", resource} & set(rule.get("resources") or ())
        and {"*", "phasegate.dev"} & set(rule.get("apiGroups") or ())
        and {"*", operation} & set(rule.get("operations") or ())
        and not rule.get("resourceNames")
        for rule in constraints.get("resourceRules") or ()
    )


def _plain(expression: str) -> str:
    return "".join(expression.split())
