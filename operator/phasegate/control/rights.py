"""The operator's own rights: what it needs of RBAC, and what does not work without it.

The API server is asked at the start, one SelfSubjectAccessReview for each right; what is missing is
said in one sentence each, and asked for again until it is there. Nothing waits for it: an operator
that may not write events still takes traffic back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from phasegate.api.base import GROUP
from phasegate.api.errors import ClusterError
from phasegate.control.ports import Clock, Kind, Manifest

OWN_ACCESS_REVIEW: Final = Kind(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"
)
AGAIN: Final = 30.0
"""Seconds until what is missing is asked for again."""
TOLD: Final = 3
"""Missing rights that a probe names; the log names all."""
AT_ONCE: Final = 8
"""Reviews under way at a time."""

Place = Literal["agents", "cluster", "lease"]
"""Where a right is needed: in namespaces with agents, everywhere, in the Lease's namespace."""

_log = logging.getLogger(__name__)


class Reviewer(Protocol):
    """Who answers reviews of rights: the API server, without a fence, as a standby asks as well."""

    async def create(self, manifest: Manifest) -> Manifest:
        """The review with its answer in ``status``; raises ClusterError."""


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource (``deployments``, ``agentdeployments/status``)."""

    group: str
    resource: str
    verb: str
    without: str
    """What does not work without it."""
    place: Place = "agents"
    name: str = ""
    """The one object that it is needed for; "" for all."""
    namespace: str = ""
    """The one namespace that it is needed in; "" for those of `place`."""

    def __str__(self) -> str:
        full = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {full}" + (f" {self.name}" if self.name else "")


def _rights(
    group: str, resource: str, verbs: str, without: str, place: Place = "agents", name: str = ""
) -> tuple[Right, ...]:
    return tuple(Right(group, resource, verb, without, place, name) for verb in verbs.split())


_SEE: Final = "get list watch"
_MAKE: Final = "create patch delete"
_GATEWAY: Final = "gateway.networking.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_REVIEWED: Final = ("phasegate-rolloutactions", "phasegate-authors")

AGENT_RIGHTS: Final = (
    *_rights(GROUP, "agentdeployments", _SEE, "agents are not seen"),
    *_rights(GROUP, "agentdeployments", "patch", "rollouts do not start: no finalizer can be set"),
    *_rights(GROUP, "agentdeployments/status", "patch", "rollouts do not go on: no status"),
    *_rights(GROUP, "rollbackpolicies", _SEE, "policies are not seen, so nothing is judged"),
    *_rights(GROUP, "rolloutactions", _SEE, "people's decisions are not seen"),
    *_rights(GROUP, "rolloutactions/status", "patch", "people's decisions get no answer"),
    *_rights(GROUP, "agentrollouts", f"{_SEE} create", "attempts are not recorded"),
    *_rights(GROUP, "agentrollouts/status", "patch", "attempts are not recorded"),
    *_rights(_GATEWAY, "httproutes", f"{_SEE} {_MAKE}", "traffic cannot be moved"),
    *_rights(
        "gateway.envoyproxy.io",
        "httproutefilters",
        "get create",
        "a deactivated agent answers 500 on Envoy Gateway, not 503",
    ),
    *_rights("apps", "deployments", f"{_SEE} {_MAKE}", "revisions do not run"),
    *_rights("", "services", f"{_SEE} {_MAKE}", "revisions cannot be reached"),
    *_rights("", "configmaps", f"{_SEE} {_MAKE}", "what revisions read cannot be kept"),
    *_rights("apps", "controllerrevisions", f"{_SEE} create delete", "revisions cannot be kept"),
    *_rights("", "pods", "list", "nobody can say why pods are not ready"),
    *_rights("events.k8s.io", "events", "create patch", "no events are written; the log has them"),
    *_rights("events.k8s.io", "events", "get", "a new leader cannot tell what was delivered"),
)
CLUSTER_RIGHTS: Final = (
    *_rights(_GATEWAY, "gateways", "get", "gateways count as unable to mirror", "cluster"),
    *_rights(_GATEWAY, "gatewayclasses", "get", "gateways count as unable to mirror", "cluster"),
    *(
        right
        for resource in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
        for name in _REVIEWED
        for right in _rights(
            _ADMISSION,
            resource,
            "get",
            "people's decisions wait: nobody can tell whether they are forged",
            "cluster",
            name,
        )
    ),
)


def endpoint_rights() -> tuple[Right, ...]:
    """What a metrics endpoint off loopback needs."""
    without = "nobody can read metrics"
    return (
        *_rights("authentication.k8s.io", "tokenreviews", "create", without, "cluster"),
        *_rights("authorization.k8s.io", "subjectaccessreviews", "create", without, "cluster"),
    )


def lease_rights(name: str) -> tuple[Right, ...]:
    """What electing a leader by the Lease `name` needs."""
    without = "no leader can be elected, so nothing is done"
    group = "coordination.k8s.io"
    return (
        *_rights(group, "leases", "create", without, "lease"),
        *_rights(group, "leases", "get patch", without, "lease", name),
    )


def price_right(namespace: str, name: str) -> Right:
    """What reading the price table takes, if there is one."""
    without = "there are no new prices: what tokens cost may not be known"
    return Right("", "configmaps", "get", without, name=name, namespace=namespace)


class RightsCheck:
    """Asks for the operator's rights until it has all of them.

    Args:
        reviewer: whom it asks.
        clock: time between two questions.
        rights: what is needed.
        namespaces: with agents; (None,) is all of them.
        lease_namespace: where the Lease is.
    """

    def __init__(
        self,
        reviewer: Reviewer,
        clock: Clock,
        rights: Iterable[Right],
        namespaces: Sequence[str | None],
        lease_namespace: str,
    ) -> None:
        self._reviewer = reviewer
        self._clock = clock
        places: dict[Place, Sequence[str | None]] = {
            "agents": namespaces,
            "cluster": (None,),
            "lease": (lease_namespace,),
        }
        self._wanted = [
            (right, where)
            for right in rights
            for where in ([right.namespace] if right.namespace else places[right.place])
        ]
        self._missing: dict[tuple[Right, str | None], None] = {}

    @property
    def problem(self) -> str | None:
        """What is missing, in a sentence for a probe; None if nothing is known to be."""
        if not self._missing:
            return None
        named = [_sentence(*missing) for missing in list(self._missing)[:TOLD]]
        more = len(self._missing) - len(named)
        return "; ".join([*named, *([f"and {more} more" if more else ""] if more else [])])

    async def run(self) -> None:
        """Ask, and ask again for what is missing; returns when nothing is."""
        wanted = self._wanted
        while wanted:
            try:
                wanted = await self._ask(wanted)
            except ClusterError as error:
                _log.info("own rights are not known yet", extra={"error": str(error)})
            if wanted:
                await self._clock.sleep(AGAIN)

    async def _ask(
        self, wanted: Sequence[tuple[Right, str | None]]
    ) -> list[tuple[Right, str | None]]:
        """Those of `wanted` that are missing; what changed is logged."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def has(right: Right, where: str | None) -> bool:
            async with slots:
                return await self._has(right, where)

        answers = await asyncio.gather(*(has(*one) for one in wanted))
        missing = dict.fromkeys(
            one for one, there in zip(wanted, answers, strict=True) if not there
        )
        for one in missing.keys() - self._missing.keys():
            _log.error(_sentence(*one))
        for one in self._missing.keys() - missing.keys():
            _log.info("a right that was missing is there", extra={"right": str(one[0])})
        self._missing = missing
        return list(missing)

    async def _has(self, right: Right, where: str | None) -> bool:
        resource, _, subresource = right.resource.partition("/")
        asked = {
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
            "verb": right.verb,
            "name": right.name,
            "namespace": where or "",
        }
        review = {
            "apiVersion": OWN_ACCESS_REVIEW.api_version,
            "kind": OWN_ACCESS_REVIEW.kind,
            "metadata": {},
            "spec": {"resourceAttributes": {key: text for key, text in asked.items() if text}},
        }
        said = (await self._reviewer.create(review)).get("status") or {}
        return said.get("allowed") is True


def _sentence(right: Right, where: str | None) -> str:
    place = f" in namespace {where}" if where else ""
    return f"not allowed to {right}{place}: {right.without}; apply config/rbac"
