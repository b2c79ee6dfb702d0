"""The API server as a port: plain data in and out, a deadline on every call, our own errors."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from phasegate.adapters import kinds
from phasegate.adapters.access import Access, identified
from phasegate.adapters.kinds import path_of
from phasegate.api.errors import (
    ClusterError,
    Conflict,
    Fenced,
    NotFound,
    Refused,
    Throttled,
)
from phasegate.control.fence import Fence
from phasegate.control.ports import Kind, Manifest

FIELD_MANAGER: Final = "phasegate"
PAGE: Final = 500
"""Objects per page of a list, so that neither side holds a large answer at once."""

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml; charset=utf-8"
"""With the charset the client sends a body as it is given."""
_ESCAPED: Final = re.compile("[\\x7f-\\uffff]")
"""What YAML does not take literally, and all else that it takes as an escape of four digits."""
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_BAD_PATCH: Final = "the server rejected our request due to an error in our request"
_BAD_SHAPE: Final = ("failed to create typed patch object", "failed to convert new object")
_ERRORS: Final[Mapping[int, type[ClusterError]]] = MappingProxyType(
    {
        404: NotFound,
        409: Conflict,
        400: Refused,
        403: Refused,
        405: Refused,
        413: Refused,
        415: Refused,
        422: Refused,
    }
)

OnCall = Callable[[str, str], None]
"""Told of every call: HTTP verb, and status code or ``timeout``, ``unreachable``, ``fenced``."""

OnDate = Callable[[str, float], None]
"""Told of every answer: its ``Date`` header, and how many seconds the exchange took."""


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    path: str
    query: Mapping[str, str | int] | None = None
    body: Any = None
    content_type: str = _JSON

    @property
    def url(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class KubernetesCluster:
    """`phasegate.control.ports.Cluster` on the official client's credentials and connections.

    Typed models are not used: they drop fields they do not know. `deadline` (seconds) bounds each
    call as a whole, from the wait for a free connection to the answer's last byte.
    """

    def __init__(
        self,
        access: Access,
        client: ApiClient,
        *,
        deadline: float = 5.0,
        on_call: OnCall | None = None,
        on_date: OnDate | None = None,
        known: Iterable[Kind] = kinds.WRITTEN,
    ) -> None:
        self._access = access
        self._client = client
        self._deadline = deadline
        self._on_call = on_call or (lambda verb, code: None)
        self._on_date = on_date or (lambda date, took: None)
        self._plurals = {(kind.api_version, kind.kind): kind.plural for kind in known}

    @classmethod
    async def connect(
        cls,
        access: Access,
        *,
        connections: int = 32,
        deadline: float = 5.0,
        on_call: OnCall | None = None,
        on_date: OnDate | None = None,
        fence: Fence | None = None,
    ) -> KubernetesCluster:
        """A cluster with `connections` of its own: urgent writes use a second one. ConfigError.

        Writes are sent only while `fence` lets them pass (all, if there is none).
        """
        client = await access.client(connections, fence)
        return cls(access, client, deadline=deadline, on_call=on_call, on_date=on_date)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._client.configuration.host)

    async def version(self) -> str:
        """The API server's version: the cheapest proof that it answers and knows us."""
        return str((await self._call(_Request("GET", "/version"))).get("gitVersion", "unknown"))

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """The live object; raises NotFound."""
        return await self._call(_Request("GET", path_of(kind, namespace, name)))

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        """Live objects with the given label selector, read page by page."""
        items: list[Manifest] = []
        query: dict[str, str | int] = {"limit": PAGE}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._call(_Request("GET", path_of(kind, namespace), query))
            # Items of a list do not say what they are.
            items += (
                {"apiVersion": kind.api_version, "kind": kind.kind, **item}
                for item in page.get("items") or ()
            )
            proceed = page.get("metadata", {}).get("continue")
            if not proceed:
                return items
            query["continue"] = proceed

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply of the fields we own, forced; the object as it is now.

        A field the server does not know is refused, not dropped: a mirror percentage that an old
        Gateway API drops would become a mirror of everything.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._path_of(manifest, named=True)
        return await self._call(_Request("PATCH", path, query, _yaml(manifest), _APPLY))

    async def create(self, manifest: Manifest) -> Manifest:
        """Create; raises Conflict if it exists."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        path = self._path_of(manifest, named=False)
        return await self._call(_Request("POST", path, query, dict(manifest)))

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        """Replace ``.status`` as a whole; Conflict unless the object is at `resource_version`.

        A null means that the field should not be there, as does leaving it out.
        """
        patch: list[dict[str, Any]] = []
        if resource_version is not None:
            version = {"path": "/metadata/resourceVersion", "value": resource_version}
            patch.append({"op": "replace", **version})
        patch.append({"op": "add", "path": "/status", "value": _without_nulls(status)})
        path = f"{path_of(kind, namespace, name)}/status"
        return await self._patch(path, patch)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> Manifest:
        """Merge patch (mapping) or JSON patch (sequence) of the main resource.

        Conflict if a ``resourceVersion`` in a merge patch, or a ``test`` in a JSON patch, fails.
        """
        return await self._patch(path_of(kind, namespace, name), patch)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> None:
        """Delete in the background; an object already gone (or replaced by another) is fine."""
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call(_Request("DELETE", path_of(kind, namespace, name), body=options))
        except NotFound:
            return
        except Conflict:
            if uid is None:
                raise

    async def _patch(
        self, path: str, patch: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Manifest:
        query = {"fieldManager": FIELD_MANAGER}
        if isinstance(patch, Mapping):
            return await self._call(_Request("PATCH", path, query, dict(patch), _MERGE_PATCH))
        operations = [dict(operation) for operation in patch]
        try:
            return await self._call(_Request("PATCH", path, query, operations, _JSON_PATCH))
        except Refused as error:
            # A failed test and a bad path get the same words; with a test, "look again" fits both.
            if str(error) == _BAD_PATCH and any(step.get("op") == "test" for step in operations):
                raise Conflict("The object is not as this change expects it") from error
            raise

    def _path_of(self, manifest: Manifest, *, named: bool) -> str:
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        plural = self._plurals.get((api_version, kind))
        if plural is None:
            raise ClusterError(f"{api_version} {kind} is not a kind that Phasegate writes")
        metadata = manifest["metadata"]
        name = metadata["name"] if named else None
        return path_of(Kind(api_version, kind, plural), metadata.get("namespace"), name)

    async def _call(self, request: _Request) -> dict[str, Any]:
        status, body, pause = await self._send(request)
        if status == 401:  # rotated credentials: read them again, once
            await self._access.sign_in_again(self._client)
            status, body, pause = await self._send(request)
        answer = _parse(body)
        if 200 <= status < 300:
            return answer
        words = str(answer.get("message") or f"{request.verb} {request.path}: HTTP {status}")
        if status in (429, 503) and pause is not None:
            raise Throttled(words, pause)
        if status == 500 and words.startswith(_BAD_SHAPE):
            raise Refused(words)  # unknown field, wrong type or value: no fault of the server's
        raise _ERRORS.get(status, ClusterError)(words)

    async def _send(self, request: _Request) -> tuple[int, bytes, float | None]:
        """Status, body, and for how many seconds it asks to be left alone."""
        what = f"{request.verb} {request.path}"
        try:
            async with asyncio.timeout(self._deadline):
                status, body, pause = await self._exchange(request)
        except TimeoutError as error:
            self._on_call(request.verb, "timeout")
            raise ClusterError(
                f"The API server did not answer within {self._deadline:g} s ({what})"
            ) from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            self._on_call(request.verb, "unreachable")
            raise ClusterError(f"Cannot reach the API server ({what}): {error}") from error
        except Fenced:
            self._on_call(request.verb, "fenced")
            raise
        self._on_call(request.verb, str(status))
        return status, body, pause

    async def _exchange(self, request: _Request) -> tuple[int, bytes, float | None]:
        configuration = self._client.configuration
        headers = {"Accept": _JSON, "Content-Type": request.content_type}
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        headers |= await identified(self._client)
        response = await self._client.call_api(
            request.verb,
            f"{configuration.host}{request.url}",
            headers,
            request.body,
            # The client's own default is five minutes; ours is around the whole exchange.
            _request_timeout=aiohttp.ClientTimeout(total=self._deadline),
        )
        body = bytes(await response.read())  # type: ignore[no-untyped-call]
        took = time.clock_gettime(time.CLOCK_BOOTTIME) - began
        self._on_date(str(response.headers.get("Date", "")), took)
        pause = str(response.headers.get("Retry-After", ""))
        return int(response.status), body, float(pause) if pause.isdecimal() else None


def _yaml(manifest: Manifest) -> bytes:
    """JSON that is YAML as well: an apply is read as such, and YAML knows no surrogate pairs."""
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _parse(body: bytes) -> dict[str, Any]:
    """The answer as an object; whatever else a proxy in between may say is no answer of ours."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value]
    return value
