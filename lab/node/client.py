"""A small Kubernetes API client: requests, and one watch that survives everything.

Only what a node needs. Objects stay plain JSON dictionaries, as the API server sends them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import yaml

from lab.errors import LabError

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
WATCH_SECONDS = 240
RETRY_FIRST_S, RETRY_LAST_S = 0.2, 5.0


class ApiError(LabError):
    """The API server's refusal: HTTP ``status``, its ``reason`` word and its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Endpoint:
    """Where the API server is and how to speak to it."""

    server: str
    tls: ssl.SSLContext | None
    token: str | None


@dataclass(frozen=True)
class Change:
    """One event of a followed list.

    ``SYNC`` carries the whole list (after every list and re-list) and comes first; the others
    carry one object each.
    """

    kind: Literal["SYNC", "ADDED", "MODIFIED", "DELETED"]
    objects: tuple[Json, ...]


def load_kubeconfig(path: Path) -> Endpoint:
    """Read the current context of a kubeconfig. Raises LabError where it cannot be used."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        contexts = {item["name"]: item["context"] for item in config["contexts"]}
        context = contexts[config["current-context"]]
        clusters = {item["name"]: item["cluster"] for item in config["clusters"]}
        users = {item["name"]: item["user"] for item in config["users"]}
        cluster, user = clusters[context["cluster"]], users[context["user"]]
        server = str(cluster["server"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise LabError(f"kubeconfig {path} cannot be read: {error!r}") from error
    tls = _tls_context(cluster, user) if server.startswith("https:") else None
    return Endpoint(server=server.rstrip("/"), tls=tls, token=_token(user))


def _token(user: Mapping[str, Any]) -> str | None:
    if "tokenFile" in user:
        return Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    token = user.get("token")
    return None if token is None else str(token)


def _tls_context(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority = _pem(cluster, "certificate-authority")
    if authority is not None:
        context.load_verify_locations(cadata=authority.decode())
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if certificate is not None and key is not None:
        # ssl reads certificate chains from files only.
        with tempfile.TemporaryDirectory() as directory:
            pair = Path(directory, "pair.pem")
            pair.touch(mode=0o600)
            pair.write_bytes(certificate + b"\n" + key)
            context.load_cert_chain(pair)
    return context


def _pem(section: Mapping[str, Any], name: str) -> bytes | None:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"])
    return Path(section[name]).read_bytes() if name in section else None


class ApiClient:
    """JSON requests to one API server. Use as an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        headers = {"Accept": "application/json", "User-Agent": "phasegate-lab-node"}
        if endpoint.token:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=endpoint.tls or False, limit=32),
            timeout=aiohttp.ClientTimeout(total=15),
        )

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request and return the answer's JSON.

        Raises ApiError for a refusal and for a server that cannot be reached (status 0).
        """
        try:
            async with self._session.request(
                method,
                self._endpoint.server + path,
                params=params,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type},
            ) as response:
                text = await response.text()
                if response.status >= 400:
                    raise _refusal(response.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"API server: {error!r}") from error
        answer = json.loads(text)
        return answer if isinstance(answer, dict) else {}

    async def get(self, path: str) -> Json:
        """Read one object."""
        return await self.request("GET", path)

    async def follow(self, path: str) -> AsyncIterator[Change]:
        """List, then watch, for ever; every problem ends in a new watch or a new list.

        A watch that ends goes on from the last version seen; a version the server no longer has
        (410) means a new list.
        """
        version, delay = "", RETRY_FIRST_S
        while True:
            try:
                if not version:
                    listing = await self.get(path)
                    version = listing["metadata"]["resourceVersion"]
                    yield Change("SYNC", tuple(listing.get("items") or ()))
                async for kind, item in self._watch(path, version):
                    version, delay = item["metadata"]["resourceVersion"], RETRY_FIRST_S
                    if kind != "BOOKMARK":
                        yield Change(kind, (item,))
                await asyncio.sleep(RETRY_FIRST_S)
            except ApiError as error:
                if error.status == 410:
                    version = ""
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_LAST_S)

    async def _watch(self, path: str, version: str) -> AsyncIterator[tuple[Any, Json]]:
        params = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        # Longer than the server's own limit: a connection that died silently ends here.
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 10)
        url = self._endpoint.server + path
        try:
            async with self._session.get(url, params=params, timeout=timeout) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.text())
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(
                            int(status.get("code", 500)),
                            str(status.get("reason", "")),
                            str(status.get("message", "")),
                        )
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as error:
            raise ApiError(0, "WatchBroken", f"watch of {path}: {error!r}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not readline(): it refuses lines over 128 KiB, and a pod with a long prompt is longer.
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line:
                    yield line


def _refusal(status: int, text: str) -> ApiError:
    try:
        answer = json.loads(text)
        return ApiError(status, str(answer.get("reason", "")), str(answer.get("message", "")))
    except (json.JSONDecodeError, AttributeError):
        return ApiError(status, "", text[:500])
