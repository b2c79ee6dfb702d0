"""How requests reach an agent: the part of an ``AgentDeployment`` that routers read."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from phasegate.api.base import (
    Cel,
    Name,
    Notation,
    ObjectName,
    SpecModel,
    list_atomic,
    list_map,
    list_set,
)


class Service(SpecModel):
    """The port on which the agent's containers answer."""

    port: Annotated[int, Field(ge=1, le=65535)]


class ParentRef(SpecModel):
    """A Gateway to attach to."""

    name: ObjectName
    namespace: Name | None = None
    section_name: ObjectName | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None


class PathMatch(SpecModel):
    """Match on the request's path."""

    type: Literal["Exact", "PathPrefix"] = "PathPrefix"
    value: Annotated[
        str,
        StringConstraints(max_length=1024),
        Notation(r"/[^\s?#]*", "must be a path that begins with '/'"),
    ] = "/"


class HeaderMatch(SpecModel):
    """Match on one header's exact value."""

    name: Annotated[
        str,
        StringConstraints(max_length=256),
        Notation(r"[A-Za-z0-9!#$%&'*+\-.^_|~]+", "must be the name of a header"),
    ]
    value: Annotated[
        str,
        StringConstraints(min_length=1, max_length=4096),
        Notation(r"[^\x00-\x1f\x7f]+", "must be one line of text without control characters"),
    ]


class RouteMatch(SpecModel):
    """One set of conditions a request must meet."""

    path: PathMatch | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=8), list_map("name")] = ()
    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] | None = None


Hostname = Annotated[
    str,
    StringConstraints(max_length=253),
    Notation(
        r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "must be a host name in lower case, without scheme and port; '*.' may stand in front",
    ),
]


class GatewayApi(SpecModel):
    """Traffic through a Gateway; the operator owns the HTTPRoute."""

    parent_refs: Annotated[tuple[ParentRef, ...], Field(min_length=1, max_length=8), list_atomic()]
    """The Gateways that take the requests."""
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16), list_set()] = ()
    """Host names the agent answers to; those of the listener if left out."""
    matches: Annotated[tuple[RouteMatch, ...], Field(max_length=8), list_atomic()] = ()
    """Which requests are the agent's; all if left out."""


class Traffic(SpecModel):
    """How requests reach the agent: exactly one router."""

    gateway_api: Annotated[GatewayApi | None, Field(alias="gatewayAPI")] = None

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel("has(self.gatewayAPI)", "set exactly one router: none is set, add gatewayAPI"),
    )
