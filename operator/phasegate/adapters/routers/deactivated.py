"""What an HTTPRoute says of an agent that is deactivated: who answers, and by whose word.

Pure but for `refuse`, which makes the one object that such a route may need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from phasegate.adapters.kinds import HTTP_ROUTE_FILTER
from phasegate.api.errors import Conflict
from phasegate.control.parse import meta_of, owner_of
from phasegate.control.ports import Cluster, Manifest
from phasegate.rollout.labels import common_labels, owner_reference
from phasegate.rollout.route import Backend, Deactivation

ANNOTATION_DEACTIVATED: Final = "phasegate.dev/deactivated"
INSTEAD_RULE: Final = "instead"
_REFUSAL: Final = '{"error": "this service is switched off; please try again later"}\n'


def is_refused(route: Manifest) -> bool:
    """Whether `route` refuses every request in words (`refusal_of`)."""
    rules = route.get("spec", {}).get("rules") or ()
    instead: Mapping[str, Any] = next(
        (rule for rule in rules if rule.get("name") == INSTEAD_RULE), {}
    )
    return any(item.get("type") == "ExtensionRef" for item in instead.get("filters") or ())


def refusal_of(agent: Manifest) -> dict[str, Any]:
    """What Envoy Gateway answers for a deactivated agent without a fallback.

    By the Gateway API a rule without backends answers 500, which says nothing to anybody.
    """
    meta = meta_of(agent)
    return {
        "apiVersion": HTTP_ROUTE_FILTER.api_version,
        "kind": HTTP_ROUTE_FILTER.kind,
        "metadata": {
            "name": f"{meta.name}-deactivated",
            "namespace": meta.namespace,
            "labels": common_labels(meta.name),
            "ownerReferences": [owner_reference(meta)],
        },
        "spec": {
            "directResponse": {
                "statusCode": 503,
                "contentType": "application/json",
                "body": {"type": "Inline", "inline": _REFUSAL},
            }
        },
    }


async def refuse(cluster: Cluster, agent: Manifest) -> bool:
    """Make `refusal_of` the agent if it is not there; False if the name is somebody else's.

    Raises ClusterError where Envoy Gateway's kinds are not installed.
    """
    wanted = refusal_of(agent)
    try:
        found = await cluster.create(wanted)
    except Conflict:
        where = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        found = await cluster.get(HTTP_ROUTE_FILTER, *where)
    uid: str = agent["metadata"]["uid"]
    return owner_of(found) == uid


def instead_of(agent: Manifest, fallback: Backend | None, *, refusal: bool) -> dict[str, Any]:
    """Who answers for a deactivated agent: a Service, the agent's refusal, or by a plain 500 nobody."""
    if fallback is not None:
        service = {"group": "", "kind": "Service", "name": fallback.name, "port": fallback.port}
        return {"backendRefs": [{**service, "weight": 1}]}
    if not refusal:
        return {}
    group = HTTP_ROUTE_FILTER.api_version.partition("/")[0]
    named = {"group": group, "kind": HTTP_ROUTE_FILTER.kind}
    named["name"] = refusal_of(agent)["metadata"]["name"]
    return {"filters": [{"type": "ExtensionRef", "extensionRef": named}]}


def write_off(off: Deactivation) -> str:
    """By whose word, why and when, as an annotation."""
    return json.dumps({"by": off.by, "reason": off.reason, "decidedAt": off.decided_at.isoformat()})


def off_of(route: Manifest, rule: Mapping[str, Any]) -> Deactivation | None:
    """By whose word `route` keeps requests from the agent; None if that is not readable."""
    text = (route["metadata"].get("annotations") or {}).get(ANNOTATION_DEACTIVATED)
    references = rule.get("backendRefs") or ()
    if text is None or len(references) > 1:
        return None
    try:
        fields = json.loads(text)
        return Deactivation(
            by=fields["by"],
            reason=fields["reason"],
            decided_at=datetime.fromisoformat(fields["decidedAt"]),
            fallback=next((Backend(ref["name"], ref["port"]) for ref in references), None),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
