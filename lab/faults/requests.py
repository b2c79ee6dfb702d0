"""What a request to the API server asks for, and which requests a rule is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

READS = ("get", "list", "watch")
WRITES = ("create", "apply", "patch", "update", "delete", "deletecollection")

_APPLY = "application/apply-patch+yaml"
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Below /namespaces/NAME these belong to the Namespace itself; anything else is a plural in it.
_OF_A_NAMESPACE = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, and what became of it."""

    verb: str
    """get list watch create apply patch update delete."""
    plural: str
    """Such as `httproutes`; the whole path where it is no resource (`/version`)."""
    subresource: str
    namespace: str
    name: str
    """Empty for lists and for what is created."""
    status: int
    """HTTP status that was delivered; 0: none (cut off, still hanging when given up)."""
    at: float
    """When it arrived, in seconds since the epoch."""
    body: bytes = b""
    """What was sent."""

    @property
    def write(self) -> bool:
        """Whether it was to change something: reviews only ask, though they are created."""
        return self.verb in WRITES and not self.plural.endswith("reviews")


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests: those that meet all that is said. None says nothing.

    `subresource=""` is the object itself; `watch` is a verb of its own, beside `list`.
    """

    verbs: Collection[str] | None = None
    plural: str | None = None
    subresource: str | None = None
    name: str | None = None
    namespace: str | None = None

    def __call__(self, request: Seen) -> bool:
        """Whether this request is meant."""
        wanted = (self.plural, self.subresource, self.name, self.namespace)
        given = (request.plural, request.subresource, request.name, request.namespace)
        return (self.verbs is None or request.verb in self.verbs) and all(
            want is None or want == value for want, value in zip(wanted, given, strict=True)
        )


def understand(
    method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes, at: float
) -> Seen:
    """What an HTTP request asks the API server for; status 0."""
    plural, namespace, name, subresource = _resource(path)
    verb = _VERBS.get(method, method.lower())
    if verb == "get" and query.get("watch", "").lower() in ("1", "true"):
        verb = "watch"
    elif verb == "get" and plural != path and not name:
        verb = "list"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    elif verb == "patch" and content_type.startswith(_APPLY):
        verb = "apply"
    return Seen(verb, plural, subresource, namespace, name, 0, at, body)


def _resource(path: str) -> tuple[str, str, str, str]:
    """Plural, namespace, name, subresource of a path; the path itself where it is no resource."""
    steps = [unquote(step) for step in path.strip("/").split("/")]
    rest = {"api": steps[2:], "apis": steps[3:]}.get(steps[0], [])
    if not rest:
        return path, "", "", ""
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _OF_A_NAMESPACE:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    return plural, namespace, name, subresource
