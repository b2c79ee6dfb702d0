"""Gateway API as a router: one HTTPRoute per agent, owned by the operator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Final

from phasegate.adapters.kinds import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from phasegate.adapters.routers.capabilities import UNKNOWN, Features, common, features_of
from phasegate.adapters.routers.claims import Claims
from phasegate.adapters.routers.contest import Contests, editor_of
from phasegate.adapters.routers.deactivated import is_refused, refuse
from phasegate.adapters.routers.httproute import (
    ANNOTATIONS,
    fingerprint,
    is_stamped,
    parse,
    ports_of,
    problem_of,
    render,
    revisions_in,
    traffic_of,
    wanted_traffic,
)
from phasegate.api.errors import ClusterError, Conflict, InvalidSpec, NotFound, Refused
from phasegate.control.parse import owner_of
from phasegate.control.ports import Cluster, Key, Manifest
from phasegate.rollout.giving import gives_more
from phasegate.rollout.observed import RouteSeen
from phasegate.rollout.route import RoutePlan

REMEMBERED: Final = 20_000
"""Routes whose last seen state is kept; forgetting one costs one read."""
RETRY: Final = 10.0
"""Seconds after which a gateway that gave no answer is asked again."""
COURTESY: Final = 0.25
"""Seconds that what only makes a message better may take: it stands before the route write."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What has to be known of the live route to write it."""

    uid: str | None
    owner: str | None
    version: str = "0"
    fingerprint: str = ""
    plan: RoutePlan | None = None
    revisions: frozenset[str] = frozenset()
    """Revisions of the agent that any of it goes to, readable as a plan or not."""
    ports: Mapping[str, int] = field(default_factory=dict)
    stamped: bool = False
    refused: bool = False
    traffic: Mapping[str, Any] | None = None
    """What of the route is the user's, as ``spec.traffic.gatewayAPI`` would say it."""

    @classmethod
    def of(cls, route: Manifest) -> _Route:
        return cls(
            uid=route["metadata"]["uid"],
            owner=owner_of(route),
            version=str(route["metadata"].get("resourceVersion", "0")),
            fingerprint=fingerprint(route),
            plan=parse(route),
            revisions=revisions_in(route),
            ports=ports_of(route),
            stamped=is_stamped(route),
            refused=is_refused(route),
            traffic=traffic_of(route),
        )


_NONE: Final = _Route(None, None)


@dataclass(frozen=True, slots=True)
class _Left:
    """How we left a route: what we wanted it to be, and what the API server made of that."""

    wanted: str
    route: _Route


class GatewayApiRouter:
    """`phasegate.control.ports.Router` on HTTPRoutes.

    `urgent` is the cluster that writes go through: its connections are nobody else's. `live` is
    the one that remembers nothing. `configured`
    holds the administrator's word on what a controller can do. What a GatewayClass can do is asked
    again after `remember` seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        urgent: Cluster | None = None,
        live: Cluster | None = None,
        configured: Mapping[str, Features] | None = None,
        remember: float = 60.0,
        monotonic: Callable[[], float] = monotonic,
        tell: Callable[[Key], None] = lambda key: None,
    ) -> None:
        """`tell`: called for an agent whose requests another one has begun or ceased to ask for."""
        self._cluster = cluster
        self._urgent = urgent or cluster
        self._live = live or cluster
        self._configured = configured or {}
        self._remember = remember
        self._monotonic = monotonic
        self._features: dict[tuple[str, str], tuple[float, Features]] = {}
        self._routes: dict[tuple[str, str], _Route] = {}
        self._left: dict[tuple[str, str], _Left] = {}
        self._contests = Contests(monotonic)
        self._claims = Claims(tell)

    async def observe(self, agent: Manifest, *, live: bool = False) -> RouteSeen:
        """The route of `agent` as it is now. Raises ClusterError only if the route is unreadable.

        What the gateway can do is a courtesy: if it cannot be learnt, what was known last counts,
        so that nothing stands before a rollback.
        """
        features, problem = await self._features_for(agent)
        namespace, name = agent["metadata"]["namespace"], agent["metadata"]["name"]
        capabilities = features.capabilities()
        try:
            cluster = self._live if live else self._cluster
            route = await cluster.get(HTTP_ROUTE, namespace, name)
        except NotFound:
            self._keep(agent, _NONE)
            self._left.pop(_key(agent), None)
            message = problem or "There is no route yet"
            return RouteSeen(None, programmed=False, message=message, capabilities=capabilities)
        seen = _Route.of(route)
        self._keep(agent, seen)
        foreign = _foreign(agent, seen)
        if foreign:
            return RouteSeen(None, programmed=False, message=foreign, capabilities=capabilities)
        message = problem or problem_of(route) or await self._rival(agent)
        edited = await self._edited(agent, route, seen)
        return RouteSeen(
            seen.plan,
            programmed=not message,
            message=message,
            capabilities=capabilities,
            edited=edited,
            contested=self._contested(agent),
        )

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        """Make the route say `plan`, and what ``spec.traffic`` says: one write, or none.

        Nothing is written if the route, as last observed, says all that already; so this may be
        called in every pass. Nor is it, for a while, if somebody else changes the route again and
        again and nobody gets more traffic by that than `plan` says. Raises Refused if a route of
        this name belongs to somebody else, Conflict if it was replaced since it was observed.
        """
        live = self._routes.get(_key(agent)) or await self._look(agent)
        foreign = _foreign(agent, live)
        if foreign:
            raise Refused(foreign)
        try:
            if not wanted_traffic(agent):
                raise InvalidSpec("spec.traffic.gatewayAPI: no route can be made of it")
            await self._apply(agent, live, plan)
        except (Refused, InvalidSpec):
            # The user's part of the route is refused. The split is not theirs to hold up: it is
            # written with what the route says already; their part is tried again next time.
            if live.traffic is None:
                raise
            given = agent.get("spec")
            spec = {**(given if isinstance(given, Mapping) else {})}
            spec["traffic"] = {"gatewayAPI": live.traffic}
            if not await self._apply({**agent, "spec": spec}, live, plan):
                raise

    async def remove(self, agent: Manifest) -> None:
        """Delete the route of `agent`; one that is gone, or somebody else's, is let be."""
        live = self._routes.get(_key(agent)) or await self._look(agent)
        if live.uid is None or _foreign(agent, live):
            return
        await self._urgent.delete(HTTP_ROUTE, *_key(agent), uid=live.uid)

    def forget(self, key: Key) -> None:
        """Nothing is kept of an agent that is gone; who asked for the same requests is told."""
        name = key.namespace, key.name
        self._routes.pop(name, None)
        self._left.pop(name, None)
        self._contests.forget(name)
        self._claims.drop(key)

    async def _apply(self, agent: Manifest, live: _Route, plan: RoutePlan) -> bool:
        """One write, unless it has to rest; False when the route says it all already."""
        desired = render(
            agent,
            plan,
            stamp=self._stamps(agent, live),
            ports=live.ports,
            refusal=await self._refuses(agent, live, plan),
        )
        name, wanted = _key(agent), fingerprint(desired)
        left = self._left.get(name)
        made = left.route.fingerprint if left is not None and left.wanted == wanted else None
        if live.fingerprint in (wanted, made):
            self._leave(agent, _Left(wanted, live))
            return False
        again = made is not None  # not a new decision: somebody undid this one
        if again and self._contests.rests(name) and not _too_much(agent, live, plan):
            return True
        if live.uid is not None:
            desired["metadata"]["uid"] = live.uid  # refused, should it be another one by now
        try:
            written = await self._urgent.apply(desired)
        except (Conflict, NotFound):
            self._routes.pop(_key(agent), None)
            raise
        if fingerprint(written) != wanted:
            written = await self._replace(desired, written)
        self._keep(agent, _Route.of(written))
        self._leave(agent, _Left(wanted, _Route.of(written)))
        if again:
            self._contests.corrected(name)
        return True

    async def _replace(self, desired: Manifest, live: Manifest) -> Manifest:
        """Take out what others added: an apply only takes away what was ours.

        What the API server itself adds comes back; then the route is as good as it gets.
        """
        metadata = live["metadata"]
        version = {"path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        patch: list[dict[str, Any]] = [
            {"op": "test", **version},
            {"op": "replace", "path": "/spec", "value": desired["spec"]},
        ]
        ours = desired["metadata"].get("annotations") or {}
        for name in (metadata.get("annotations") or {}).keys() - ours.keys():
            if name in ANNOTATIONS:
                path = f"/metadata/annotations/{name.replace('/', '~1')}"
                patch.append({"op": "remove", "path": path})
        where = metadata["namespace"], metadata["name"]
        return await self._urgent.patch(HTTP_ROUTE, *where, patch)

    async def _edited(self, agent: Manifest, route: Manifest, seen: _Route) -> str:
        """Who changed the route since we left it; "" if nobody did."""
        name = _key(agent)
        left = self._left.get(name)
        if left is None or left.route.uid != seen.uid:
            return ""
        if left.route.fingerprint == seen.fingerprint or _older(seen, left.route):
            return ""
        if "managedFields" not in route["metadata"]:  # memory does not keep them
            with contextlib.suppress(ClusterError, TimeoutError):
                async with asyncio.timeout(COURTESY):
                    route = await self._live.get(HTTP_ROUTE, *name)
        by = editor_of(route) or "somebody"
        self._contests.edited(name, seen.version, by)
        return by

    async def _rival(self, agent: Manifest) -> str:
        """What is told while another agent gets the requests that this one asks for."""
        self._claims.note(agent)
        namespace, name = _key(agent)
        rival = self._claims.winner(Key(namespace, name))
        if rival is None:
            return ""
        try:
            await self._cluster.get(HTTP_ROUTE, rival.namespace, rival.name)
        except NotFound:
            self._claims.drop(rival)
            return await self._rival(agent)
        except ClusterError:
            pass  # it had one when it was looked at last
        here = rival.namespace == namespace
        who = f"AgentDeployment {rival.name}" if here else "an AgentDeployment of another namespace"
        return (
            f"{who}, which is older, asks the Gateway for the same requests and gets them: "
            "change spec.traffic.gatewayAPI.hostnames or matches of one of the two"
        )

    def _contested(self, agent: Manifest) -> str:
        """What is told while somebody changes the route again and again."""
        namespace, name = _key(agent)
        by = self._contests.contender((namespace, name))
        if not by:
            return ""
        return (
            f"{by} changes HTTPRoute {namespace}/{name} again and again, which only Phasegate may "
            "write: take the route out of what it applies"
        )

    async def _look(self, agent: Manifest) -> _Route:
        namespace, name = _key(agent)
        try:
            return _Route.of(await self._urgent.get(HTTP_ROUTE, namespace, name))
        except NotFound:
            return _NONE

    def _keep(self, agent: Manifest, route: _Route) -> None:
        self._routes.pop(_key(agent), None)
        self._routes[_key(agent)] = route
        if len(self._routes) > REMEMBERED:
            del self._routes[next(iter(self._routes))]

    def _leave(self, agent: Manifest, left: _Left) -> None:
        self._left.pop(_key(agent), None)
        self._left[_key(agent)] = left
        if len(self._left) > REMEMBERED:
            del self._left[next(iter(self._left))]

    def _stamps(self, agent: Manifest, live: _Route) -> bool:
        """Whether backends get a header filter; as it is now while the gateway cannot be asked."""
        known = [self._features.get(parent) for parent in _parents(agent)]
        features = [entry[1] for entry in known if entry is not None]
        if len(features) < len(known):
            return live.stamped
        return common(features).backend_headers

    async def _refuses(self, agent: Manifest, live: _Route, plan: RoutePlan) -> bool:
        """Whether requests can be refused in words: a courtesy, it stands before the route write."""
        if plan.off is None or plan.off.fallback is not None:
            return False
        if live.refused:
            return True
        known = [self._features.get(parent) for parent in _parents(agent)]
        if not common(entry[1] for entry in known if entry is not None).direct_response:
            return False
        try:
            async with asyncio.timeout(COURTESY):
                return await refuse(self._urgent, agent)
        except (ClusterError, TimeoutError):  # without that kind, or without an answer
            return False

    async def _features_for(self, agent: Manifest) -> tuple[Features, str]:
        """What all gateways in front of `agent` can do, and what is wrong with one of them."""
        found: list[Features] = []
        problem = ""
        for parent in _parents(agent):
            at, features = self._features.get(parent, (None, UNKNOWN))
            if at is None or self._monotonic() - at > self._remember:
                if at is not None:  # others need not ask meanwhile, nor again if nobody answers
                    retry = self._remember - min(RETRY, self._remember)
                    self._features[parent] = (self._monotonic() - retry, features)
                try:
                    async with asyncio.timeout(None if at is None else COURTESY):
                        features = await self._ask(*parent)
                    self._features[parent] = (self._monotonic(), features)
                except NotFound:
                    if at is not None:
                        self._features[parent] = (at, features)
                    problem = problem or await self._missing(*parent)
                except (ClusterError, TimeoutError):
                    pass  # what was known last counts
            found.append(features)
        return common(found), problem

    async def _ask(self, namespace: str, name: str) -> Features:
        gateway = await self._cluster.get(GATEWAY, namespace, name)
        class_name = gateway["spec"]["gatewayClassName"]
        gateway_class = await self._cluster.get(GATEWAY_CLASS, None, class_name)
        return features_of(gateway_class, self._configured)

    async def _missing(self, namespace: str, name: str) -> str:
        try:
            gateway = await self._cluster.get(GATEWAY, namespace, name)
        except NotFound:
            return (
                f"There is no Gateway {namespace}/{name}; "
                "correct spec.traffic.gatewayAPI.parentRefs or create it"
            )
        except ClusterError:
            return ""
        class_name = gateway["spec"]["gatewayClassName"]
        return f"Gateway {namespace}/{name} is of GatewayClass {class_name}, which does not exist"


def _older(seen: _Route, than: _Route) -> bool:
    """Whether a route was read before it was written (versions that are no numbers are not)."""
    versions = seen.version, than.version
    return all(v.isdecimal() for v in versions) and int(versions[0]) < int(versions[1])


def _too_much(agent: Manifest, live: _Route, plan: RoutePlan) -> bool:
    """Whether somebody but the stable revision gets more of the users now than `plan` says.

    Of a deactivated agent that is anybody.
    """
    stable = (agent.get("status") or {}).get("stableRevision")
    if live.plan is None:
        return plan.off is not None or not live.revisions <= {stable}
    return gives_more(plan, replace(live.plan, intent=None), stable)


def _key(agent: Manifest) -> tuple[str, str]:
    return agent["metadata"]["namespace"], agent["metadata"]["name"]


def _parents(agent: Manifest) -> list[tuple[str, str]]:
    """Namespace and name of the gateways that `agent` attaches to."""
    traffic = wanted_traffic(agent)
    home = agent["metadata"]["namespace"]
    return [(ref.get("namespace") or home, ref["name"]) for ref in traffic.get("parentRefs") or ()]


def _foreign(agent: Manifest, route: _Route) -> str:
    """Why the route of the agent's name is not the agent's; "" if it is, or there is none."""
    if route.uid is None or route.owner == agent["metadata"]["uid"]:
        return ""
    namespace, name = _key(agent)
    if route.owner is None and route.revisions:
        return (
            f"HTTPRoute {namespace}/{name} has lost its ownerReference, so Phasegate may neither "
            "write nor remove it: delete it, and it is made again with the split that is decided"
        )
    return (
        f"HTTPRoute {namespace}/{name} exists and does not belong to this AgentDeployment; "
        "delete it, or give the AgentDeployment another name"
    )
