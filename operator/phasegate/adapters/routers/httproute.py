"""An HTTPRoute (Gateway API v1) as a value: `RoutePlan` ↔ manifest, and the gateway's report.

Everything here is pure. The manifest spells out what the API server would default, so that a live
route can be compared with a rendered one field by field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast

from pydantic import ValidationError

from phasegate.adapters.kinds import HTTP_ROUTE
from phasegate.adapters.routers.deactivated import (
    ANNOTATION_DEACTIVATED,
    INSTEAD_RULE,
    instead_of,
    off_of,
    write_off,
)
from phasegate.api.errors import InvalidSpec
from phasegate.api.traffic import GatewayApi
from phasegate.control.parse import meta_of, owner_of
from phasegate.control.ports import Manifest
from phasegate.rollout.labels import (
    AGENT,
    MANAGED_BY,
    common_labels,
    owner_reference,
    workload_name,
)
from phasegate.rollout.route import HeaderRoute, Mirror, Mode, RollbackIntent, RoutePlan, Slot

ANNOTATION_ROLLBACK: Final = "phasegate.dev/rollback"
HEADER_REVISION: Final = "x-agent-revision"
HEADER_VARIANT: Final = "x-agent-variant"
VARIANT_CANDIDATE: Final = "candidate"
HEADER_CLOSED: Final = "x-phasegate-closed"
MAIN_RULE: Final = "main"
CANDIDATE_RULE: Final = "candidate"

Ports = Mapping[str, int]
"""Port by Service name."""

_SERVICE: Final = re.compile(r"-([a-z0-9]{10})(?:-(dark|shadow))?")
ANNOTATIONS: Final = (ANNOTATION_ROLLBACK, ANNOTATION_DEACTIVATED)
"""What only the operator says about a route."""
_EVERY_PATH: Final = {"type": "PathPrefix", "value": "/"}


def render(
    agent: Manifest,
    plan: RoutePlan,
    *,
    stamp: bool = True,
    ports: Ports | None = None,
    refusal: bool = False,
) -> dict[str, Any]:
    """The HTTPRoute that says `plan` for `agent`.

    `stamp`: set x-agent-revision on each backend; it gives each a statistic of its own, but a
    gateway that does not know the filter answers 500 to the whole rule. `ports`: what the Services
    that are in the route already listen on; any other has ``spec.service.port``. The header route
    is the second rule, always: on Envoy the position of a rule is part of its statistics' name.
    `refusal`: `refusal_of` the agent exists, and the gateway knows such filters.

    A deactivated agent's main rule keeps its backends and matches nothing, so that no request is
    lost when users come back; its requests are those of the rule after it.

    Raises InvalidSpec if the agent has no ``spec.traffic.gatewayAPI``.
    """
    traffic = _gateway_api(agent)
    backend = _Backends(agent, stamp=stamp, ports=ports or {})
    asked = [_match(match) for match in traffic.get("matches") or [{}]]
    none = [_only_with(_closed(agent["metadata"]["uid"]), match) for match in asked]
    matches = none if plan.closed or plan.off is not None else asked
    main: dict[str, Any] = {"name": MAIN_RULE, "matches": matches}
    if plan.mirror is not None:
        main["filters"] = [backend.mirror(plan.mirror)]
    main["backendRefs"] = [backend.of(s.revision, "live", s.weight) for s in plan.slots]
    rules = [main]
    if plan.header is not None:
        rules.append(
            {
                "name": CANDIDATE_RULE,
                "matches": [_for_candidate(match) for match in matches],
                "backendRefs": [backend.of(plan.header.revision, plan.header.mode, 1)],
            }
        )
    if plan.off is not None:
        what = instead_of(agent, plan.off.fallback, refusal=refusal)
        rules.append({"name": INSTEAD_RULE, "matches": none if plan.closed else asked, **what})
    spec: dict[str, Any] = {"parentRefs": [_parent(ref) for ref in traffic["parentRefs"]]}
    if traffic.get("hostnames"):
        spec["hostnames"] = list(traffic["hostnames"])
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": _metadata(agent, plan),
        "spec": {**spec, "rules": rules},
    }


def wanted_traffic(agent: Manifest) -> Mapping[str, Any]:
    """``spec.traffic.gatewayAPI`` as it was written; empty where no route could be made of it."""
    traffic = _inner(agent, "spec", "traffic", "gatewayAPI")
    try:
        GatewayApi.model_validate(traffic)
    except ValidationError:
        return {}  # written under another schema
    return traffic


def parse(route: Manifest) -> RoutePlan | None:
    """What a route of ours says: the inverse of `render`; None if it is not readable as one."""
    rules = {rule.get("name"): rule for rule in route.get("spec", {}).get("rules") or ()}
    if MAIN_RULE not in rules:
        return None
    main = rules[MAIN_RULE]
    name = route["metadata"]["name"]
    slots = [_slot(name, ref) for ref in main.get("backendRefs") or ()]
    mirrors = [_mirror(name, item) for item in main.get("filters") or ()]
    headers = [_target(name, ref) for ref in rules.get(CANDIDATE_RULE, {}).get("backendRefs") or ()]
    if len(slots) != 2 or len(mirrors) > 1 or len(headers) > 1:
        return None
    if None in slots or None in mirrors or None in headers:
        return None
    instead: Mapping[str, Any] | None = rules.get(INSTEAD_RULE)
    off = off_of(route, instead) if instead is not None else None
    if instead is not None and (off is None or not _is_closed(route, main)):
        return None
    return RoutePlan(
        slots=cast(tuple[Slot, Slot], tuple(slots)),
        mirror=mirrors[0] if mirrors else None,
        header=HeaderRoute(*headers[0]) if headers and headers[0] else None,
        intent=_intent_of(route),
        closed=_is_closed(route, instead or main),
        off=off,
    )


def _is_closed(route: Manifest, main: Mapping[str, Any]) -> bool:
    closed, matches = _closed(owner_of(route)), main.get("matches") or ()
    return bool(matches) and all(closed in match.get("headers", ()) for match in matches)


def traffic_of(route: Manifest) -> dict[str, Any] | None:
    """The user's part of a route of ours, in the words of ``spec.traffic.gatewayAPI``."""
    spec = route.get("spec") or {}
    rules = {rule.get("name"): rule for rule in spec.get("rules") or ()}
    main = rules.get(INSTEAD_RULE) or rules.get(MAIN_RULE)
    if main is None or not spec.get("parentRefs") or _is_closed(route, main):
        return None
    return {
        "parentRefs": spec["parentRefs"],
        "hostnames": spec.get("hostnames") or [],
        "matches": main.get("matches") or [],
    }


def revisions_in(route: Manifest) -> frozenset[str]:
    """Every revision of the agent that `route` sends anything to, in whatever rule."""
    name = route["metadata"]["name"]
    rules = route.get("spec", {}).get("rules") or ()
    found = (_target(name, reference) for rule in rules for reference in _references(rule))
    return frozenset(target[0] for target in found if target is not None)


def ports_of(route: Manifest) -> dict[str, int]:
    """The port of every Service that `route` sends anything to."""
    return {
        ref["name"]: ref["port"]
        for rule in route.get("spec", {}).get("rules") or ()
        for ref in _references(rule)
        if "port" in ref
    }


def is_stamped(route: Manifest) -> bool:
    """Whether the backends of `route` set x-agent-revision."""
    rules = route.get("spec", {}).get("rules") or ()
    return any(ref.get("filters") for rule in rules for ref in rule.get("backendRefs") or ())


def fingerprint(route: Manifest) -> str:
    """A digest of all that `render` decides about: equal means that there is nothing to write."""
    metadata = route["metadata"]
    ours = {
        "labels": [(metadata.get("labels") or {}).get(k) for k in (MANAGED_BY, AGENT)],
        "owner": owner_of(route),
        "intent": [(metadata.get("annotations") or {}).get(name) for name in ANNOTATIONS],
        "spec": route.get("spec"),
    }
    return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()


def problem_of(route: Manifest) -> str:
    """Why the gateway does not (yet) do what `route` says, in its own words; "" if it does.

    It does when every parent reports Accepted and ResolvedRefs for the current generation. A parent
    that several controllers report on must be accepted by all of them.
    """
    namespace = route["metadata"]["namespace"]
    generation = route["metadata"].get("generation", 0)
    reports = (route.get("status") or {}).get("parents") or ()
    for parent in route["spec"].get("parentRefs") or ():
        title = f"Gateway {parent.get('namespace', namespace)}/{parent['name']}"
        wanted = _identity(parent, namespace)
        about = [r for r in reports if _identity(r.get("parentRef", {}), namespace) == wanted]
        if not about:
            return f"{title} has not reported on the route"
        for report in about:
            problem = _problem(report.get("conditions") or (), generation)
            if problem:
                return f"{title}: {problem}"
    return ""


def _problem(conditions: Any, generation: int) -> str:
    by_type = {condition["type"]: condition for condition in conditions}
    for name in ("Accepted", "ResolvedRefs"):
        found = by_type.get(name)
        if found is None or found.get("observedGeneration", 0) != generation:
            return "has not looked at the newest change of the route"
        if found.get("status") != "True":
            reason = found.get("reason", "no reason given")
            return f"{name} is {found.get('status')} ({reason}): {found.get('message', '')}"
    return ""


class _Backends:
    """References to an agent's Services."""

    def __init__(self, agent: Manifest, *, stamp: bool, ports: Ports) -> None:
        self._agent = agent["metadata"]["name"]
        self._given = agent
        self._stamp = stamp
        self._ports = ports

    def _service(self, revision: str, mode: Mode) -> dict[str, Any]:
        name = workload_name(self._agent, revision, mode)
        port = self._ports[name] if name in self._ports else _port(self._given)
        return {"group": "", "kind": "Service", "name": name, "port": port}

    def of(self, revision: str, mode: Mode, weight: int) -> dict[str, Any]:
        reference = {**self._service(revision, mode), "weight": weight}
        if self._stamp:
            header = {"set": [{"name": HEADER_REVISION, "value": revision}]}
            reference["filters"] = [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": header}
            ]
        return reference

    def mirror(self, mirror: Mirror) -> dict[str, Any]:
        # 100 is left out: some gateways mirror everything or nothing and know no percentage.
        share = {} if mirror.percent >= 100 else {"percent": mirror.percent}
        backend = self._service(mirror.revision, mirror.mode)
        return {"type": "RequestMirror", "requestMirror": {"backendRef": backend, **share}}


def _gateway_api(agent: Manifest) -> Mapping[str, Any]:
    traffic = _inner(agent, "spec", "traffic", "gatewayAPI")
    if not traffic.get("parentRefs"):
        raise InvalidSpec("spec.traffic.gatewayAPI: name the Gateway to attach to in parentRefs")
    return traffic


def _port(agent: Manifest) -> int:
    port = _inner(agent, "spec", "service").get("port")
    if not isinstance(port, int):
        raise InvalidSpec("spec.service.port: the port that the agent listens on")
    return port


def _inner(value: object, *names: str) -> Mapping[str, Any]:
    """A mapping inside mappings; empty where anything on the way is none: schemas change."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _metadata(agent: Manifest, plan: RoutePlan) -> dict[str, Any]:
    meta = meta_of(agent)
    result: dict[str, Any] = {
        "name": meta.name,
        "namespace": meta.namespace,
        "labels": common_labels(meta.name),
        "ownerReferences": [owner_reference(meta)],
    }
    annotations = {}
    if plan.intent is not None:
        annotations[ANNOTATION_ROLLBACK] = _write_intent(plan.intent)
    if plan.off is not None:
        annotations[ANNOTATION_DEACTIVATED] = write_off(plan.off)
    return {**result, "annotations": annotations} if annotations else result


def _parent(reference: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": "gateway.networking.k8s.io", "kind": "Gateway", **reference}


def _match(match: Mapping[str, Any]) -> dict[str, Any]:
    path = match.get("path") or {}
    result: dict[str, Any] = {"path": {**_EVERY_PATH, **path}}
    if match.get("headers"):
        result["headers"] = [{"type": "Exact", **header} for header in match["headers"]]
    if match.get("method"):
        result["method"] = match["method"]
    return result


def _for_candidate(match: Mapping[str, Any]) -> dict[str, Any]:
    header = {"type": "Exact", "name": HEADER_VARIANT, "value": VARIANT_CANDIDATE}
    return _only_with(header, match)


def _only_with(header: Mapping[str, Any], match: Mapping[str, Any]) -> dict[str, Any]:
    return {**match, "headers": [*match.get("headers", ()), header]}


def _closed(uid: str | None) -> dict[str, Any]:
    """A header that no request has: with it, a rule keeps its backends and matches nothing."""
    return {"type": "Exact", "name": HEADER_CLOSED, "value": uid}


def _identity(reference: Mapping[str, Any], namespace: str) -> tuple[Any, ...]:
    return (
        reference.get("group", "gateway.networking.k8s.io"),
        reference.get("kind", "Gateway"),
        reference.get("namespace", namespace),
        reference.get("name"),
        reference.get("sectionName"),
        reference.get("port"),
    )


def _references(rule: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from rule.get("backendRefs") or ()
    for item in rule.get("filters") or ():
        if item.get("type") == "RequestMirror":
            yield item["requestMirror"]["backendRef"]


def _target(agent: str, reference: Mapping[str, Any]) -> tuple[str, Mode] | None:
    """Revision and mode that a backendRef means, from its Service's name."""
    name = str(reference.get("name", ""))
    found = _SERVICE.fullmatch(name, len(agent)) if name.startswith(agent) else None
    if found is None:
        return None
    return found[1], cast(Mode, found[2] or "live")


def _slot(agent: str, reference: Mapping[str, Any]) -> Slot | None:
    target = _target(agent, reference)
    if target is None or target[1] != "live":
        return None
    return Slot(target[0], reference.get("weight", 1))


def _mirror(agent: str, item: Mapping[str, Any]) -> Mirror | None:
    if item.get("type") != "RequestMirror" or "fraction" in item["requestMirror"]:
        return None
    target = _target(agent, item["requestMirror"]["backendRef"])
    return None if target is None else Mirror(*target, item["requestMirror"].get("percent", 100))


def _write_intent(intent: RollbackIntent) -> str:
    fields = {
        "rollout": intent.rollout,
        "revision": intent.revision,
        "phase": intent.phase,
        "trigger": intent.trigger,
        "message": intent.message,
        "decidedAt": intent.decided_at.isoformat(),
        "by": intent.by,
        "since": intent.since.isoformat() if intent.since else None,
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None})


def _intent_of(route: Manifest) -> RollbackIntent | None:
    """The intent that a route carries; None if there is none, or somebody made it unreadable."""
    text = (route["metadata"].get("annotations") or {}).get(ANNOTATION_ROLLBACK)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        since = fields.get("since")
        return RollbackIntent(
            rollout=fields["rollout"],
            revision=fields["revision"],
            phase=fields["phase"],
            trigger=fields["trigger"],
            message=fields["message"],
            decided_at=datetime.fromisoformat(fields["decidedAt"]),
            by=fields.get("by"),
            since=datetime.fromisoformat(since) if since else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
