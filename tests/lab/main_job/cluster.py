"""The lab as its users reach it: the API server over HTTP, as one of its people."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self, TypeVar

import httpx
import yaml

from lab import Lab
from lab.sandbox.forward import TARGETS

Json = dict[str, Any]
_Found = TypeVar("_Found")

PATIENCE = 40.0
"""Seconds in which what a test waits for must have happened, on a busy machine."""
_POLL = 0.1

_KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "agentdeployments": ("phasegate.dev/v1alpha1", "AgentDeployment"),
        "agentrollouts": ("phasegate.dev/v1alpha1", "AgentRollout"),
        "rollbackpolicies": ("phasegate.dev/v1alpha1", "RollbackPolicy"),
        "rolloutactions": ("phasegate.dev/v1alpha1", "RolloutAction"),
        "configmaps": ("v1", "ConfigMap"),
        "pods": ("v1", "Pod"),
        "resourcequotas": ("v1", "ResourceQuota"),
        "services": ("v1", "Service"),
        "deployments": ("apps/v1", "Deployment"),
        "controllerrevisions": ("apps/v1", "ControllerRevision"),
        "events": ("events.k8s.io/v1", "Event"),
        "gatewayclasses": ("gateway.networking.k8s.io/v1", "GatewayClass"),
        "gateways": ("gateway.networking.k8s.io/v1", "Gateway"),
        "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
        "roles": ("rbac.authorization.k8s.io/v1", "Role"),
        "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    }
)
_CLUSTER_WIDE = ("gatewayclasses", "selfsubjectaccessreviews")


def until(what: str, check: Callable[[], _Found | None], seconds: float = PATIENCE) -> _Found:
    """Ask until the answer is neither None nor False; fail with `what` was waited for."""
    pause = threading.Event()
    for _ in range(round(seconds / _POLL)):
        found = check()
        if found is not None and found is not False:
            return found
        pause.wait(_POLL)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Refusal(Exception):
    """The API server said no; `status` is the HTTP status, the text its own words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class Api:
    """One namespace, as one user."""

    http: httpx.Client
    namespace: str = "default"

    @classmethod
    @contextmanager
    def of(cls, lab: Lab, user: str) -> Iterator[Self]:
        """Somebody's view; the connection is closed at the end."""
        config = yaml.safe_load(lab.user(user).read_text())
        cluster, person = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        with httpx.Client(
            base_url=cluster["server"].replace(TARGETS["apiserver"], lab.address("apiserver")),
            headers={"Authorization": f"Bearer {person['token']}"},
            verify=ssl.create_default_context(cadata=authority),
            trust_env=False,
            timeout=20,
        ) as http:
            yield cls(http)

    def within(self, namespace: str) -> Self:
        return replace(self, namespace=namespace)

    def get(self, plural: str, name: str) -> Json:
        return self._send("GET", f"{self.path(plural)}/{name}")

    def find(self, plural: str, name: str) -> Json | None:
        """The object, None if there is none of this name."""
        try:
            return self.get(plural, name)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def list(self, plural: str, selector: str = "") -> list[Json]:
        found = self._send("GET", self.path(plural), labelSelector=selector)
        items: list[Json] = found["items"]
        return items

    def create(self, plural: str, manifest: Json) -> Json:
        """A new object; its kind is filled in."""
        version, kind = _KINDS[plural]
        body = {"apiVersion": version, "kind": kind, **manifest}
        return self._send("POST", self.path(plural), body, fieldValidation="Strict")

    def patch(self, plural: str, name: str, change: Json, manager: str = "kubectl-edit") -> Json:
        """A JSON merge patch, as `kubectl patch --type merge` and `kubectl edit` send it."""
        return self._send(
            "PATCH",
            f"{self.path(plural)}/{name}",
            change,
            "application/merge-patch+json",
            fieldManager=manager,
            fieldValidation="Strict",
        )

    def delete(self, plural: str, name: str) -> None:
        self._send("DELETE", f"{self.path(plural)}/{name}")

    def path(self, plural: str) -> str:
        version = _KINDS[plural][0]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        inner = "" if plural in _CLUSTER_WIDE else f"/namespaces/{self.namespace}"
        return f"{root}{inner}/{plural}"

    def _send(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content: str = "application/json",
        **query: str,
    ) -> Json:
        answer = self.http.request(
            method, path, json=body, params=query, headers={"Content-Type": content}
        )
        said: Json = answer.json()
        if answer.is_error:
            raise Refusal(answer.status_code, str(said.get("message", said)))
        return said


class Watch:
    """Every version of one object that the API server tells of, from now on, in order."""

    def __init__(self, api: Api, plural: str, name: str) -> None:
        self._api, self._path, self._name = api, api.path(plural), name
        self._news = threading.Condition()
        self._seen: list[Json] = []
        self._stream: httpx.Response | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        with self._news:
            assert self._news.wait_for(lambda: self._stream is not None, PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._ended = True
            stream = self._stream
        if stream is not None:  # ends the reading of the other thread
            sock: socket.socket = stream.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    @property
    def seen(self) -> list[Json]:
        """What was told so far; of a deleted object the last version with `deleted: True`."""
        with self._news:
            return list(self._seen)

    def until(self, condition: Callable[[Json], bool], start: int, seconds: float) -> int | None:
        """Position of the first version from `start` on that meets the condition; None: none did."""
        position = start

        def met() -> bool:
            nonlocal position
            while position < len(self._seen):
                if condition(self._seen[position]):
                    return True
                position += 1
            return False

        with self._news:
            return position if self._news.wait_for(met, seconds) else None

    def _follow(self) -> None:
        """The API server ends watches when it likes; a new one begins with what is there."""
        while not self._ended:
            with suppress(httpx.HTTPError, json.JSONDecodeError):  # cut off within a line
                self._read()

    def _read(self) -> None:
        query = {"watch": "1", "fieldSelector": f"metadata.name={self._name}"}
        with self._api.http.stream("GET", self._path, params=query, timeout=None) as stream:
            with self._news:
                if self._ended:
                    return
                self._stream = stream
                self._news.notify_all()
                if stream.status_code != 200:  # the kind is not served yet
                    self._news.wait_for(lambda: self._ended, 0.1)
                    return
            for line in stream.iter_lines():
                self._take(json.loads(line))

    def _take(self, event: Json) -> None:
        if event["type"] == "ERROR":
            return  # and the stream ends
        version: Json = event["object"]
        if event["type"] == "DELETED":
            version["deleted"] = True
        with self._news:
            self._seen.append(version)
            self._news.notify_all()
