"""Gateway API as a router: one HTTPRoute per agent, owned by the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from phasegate.adapters.kinds import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from phasegate.adapters.routers.capabilities import UNKNOWN, Features, common, features_of
from phasegate.adapters.routers.httproute import (
    fingerprint,
    is_stamped,
    owner_of,
    parse,
    ports_of,
    problem_of,
    render,
    traffic_of,
)
from phasegate.api.errors import ClusterError, Conflict, NotFound, Refused
from phasegate.control.ports import Cluster, Manifest
from phasegate.rollout.observed import RouteSeen
from phasegate.rollout.route import RoutePlan

REMEMBERED: Final = 20_000
"""Routes whose last seen state is kept; forgetting one costs one read."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What has to be known of the live route to write it."""

    uid: str | None
    owner: str | None
    fingerprint: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    stamped: bool = False
    traffic: Mapping[str, Any] | None = None
    """What of the route is the user's, as ``spec.traffic.gatewayAPI`` would say it."""

    @classmethod
    def of(cls, route: Manifest) -> _Route:
        return cls(
            uid=route["metadata"]["uid"],
            owner=owner_of(route),
            fingerprint=fingerprint(route),
            ports=ports_of(route),
            stamped=is_stamped(route),
            traffic=traffic_of(route),
        )


_NONE: Final = _Route(None, None)


class GatewayApiRouter:
    """`phasegate.control.ports.Router` on HTTPRoutes.

    `urgent` is the cluster that writes go through: its connections are nobody else's. `configured`
    holds the administrator's word on what a controller can do. What a GatewayClass can do is asked
    again after `remember` seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        urgent: Cluster | None = None,
        configured: Mapping[str, Features] | None = None,
        remember: float = 60.0,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._cluster = cluster
        self._urgent = urgent or cluster
        self._configured = configured or {}
        self._remember = remember
        self._monotonic = monotonic
        self._features: dict[tuple[str, str], tuple[float, Features]] = {}
        self._routes: dict[tuple[str, str], _Route] = {}

    async def observe(self, agent: Manifest) -> RouteSeen:
        """The route of `agent` as it is now. Raises ClusterError only if the route is unreadable.

        What the gateway can do is a courtesy: if it cannot be learnt, what was known last counts,
        so that nothing stands before a rollback.
        """
        features, problem = await self._features_for(agent)
        namespace, name = agent["metadata"]["namespace"], agent["metadata"]["name"]
        capabilities = features.capabilities()
        try:
            route = await self._cluster.get(HTTP_ROUTE, namespace, name)
        except NotFound:
            self._keep(agent, _NONE)
            message = problem or "There is no route yet"
            return RouteSeen(None, programmed=False, message=message, capabilities=capabilities)
        seen = _Route.of(route)
        self._keep(agent, seen)
        foreign = _foreign(agent, seen)
        if foreign:
            return RouteSeen(None, programmed=False, message=foreign, capabilities=capabilities)
        message = problem or problem_of(route)
        return RouteSeen(
            parse(route), programmed=not message, message=message, capabilities=capabilities
        )

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        """Make the route say `plan`, and what ``spec.traffic`` says: one write, or none.

        Nothing is written if the route, as last observed, says all that already; so this may be
        called in every pass. Raises Refused if a route of this name belongs to somebody else,
        Conflict if it was replaced since it was observed.
        """
        live = self._routes.get(_key(agent)) or await self._look(agent)
        foreign = _foreign(agent, live)
        if foreign:
            raise Refused(foreign)
        try:
            await self._apply(agent, live, plan)
        except Refused:
            # The user's part of the route is refused. The split is not theirs to hold up: it is
            # written with what the route says already; their part is tried again next time.
            if live.traffic is None:
                raise
            spec = {**agent["spec"], "traffic": {"gatewayAPI": live.traffic}}
            if not await self._apply({**agent, "spec": spec}, live, plan):
                raise

    async def _apply(self, agent: Manifest, live: _Route, plan: RoutePlan) -> bool:
        """One write; False when the route says it all already."""
        desired = render(agent, plan, stamp=self._stamps(agent, live), ports=live.ports)
        if fingerprint(desired) == live.fingerprint:
            return False
        if live.uid is not None:
            desired["metadata"]["uid"] = live.uid  # refused, should it be another one by now
        try:
            written = await self._urgent.apply(desired)
        except (Conflict, NotFound):
            self._routes.pop(_key(agent), None)
            raise
        self._keep(agent, _Route.of(written))
        return True

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

    def _stamps(self, agent: Manifest, live: _Route) -> bool:
        """Whether backends get a header filter; as it is now while the gateway cannot be asked."""
        known = [self._features.get(parent) for parent in _parents(agent)]
        features = [entry[1] for entry in known if entry is not None]
        if len(features) < len(known):
            return live.stamped
        return common(features).backend_headers

    async def _features_for(self, agent: Manifest) -> tuple[Features, str]:
        """What all gateways in front of `agent` can do, and what is wrong with one of them."""
        found: list[Features] = []
        problem = ""
        for parent in _parents(agent):
            at, features = self._features.get(parent, (None, UNKNOWN))
            if at is None or self._monotonic() - at > self._remember:
                try:
                    features = await self._ask(*parent)
                    self._features[parent] = (self._monotonic(), features)
                except NotFound:
                    problem = problem or await self._missing(*parent)
                except ClusterError:
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


def _key(agent: Manifest) -> tuple[str, str]:
    return agent["metadata"]["namespace"], agent["metadata"]["name"]


def _parents(agent: Manifest) -> list[tuple[str, str]]:
    """Namespace and name of the gateways that `agent` attaches to."""
    traffic = (agent["spec"].get("traffic") or {}).get("gatewayAPI") or {}
    home = agent["metadata"]["namespace"]
    return [(ref.get("namespace") or home, ref["name"]) for ref in traffic.get("parentRefs") or ()]


def _foreign(agent: Manifest, route: _Route) -> str:
    """Why the route of the agent's name is not the agent's; "" if it is, or there is none."""
    if route.uid is None or route.owner == agent["metadata"]["uid"]:
        return ""
    namespace, name = _key(agent)
    return (
        f"HTTPRoute {namespace}/{name} exists and does not belong to this AgentDeployment; "
        "delete it, or give the AgentDeployment another name"
    )
