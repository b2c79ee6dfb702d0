"""A small client of a real API server for tests of what it accepts, as several users."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from phasegate.api.base import API_VERSION
from phasegate.api.crds import KINDS

ROOT = Path(__file__).parents[3]
OPERATOR = "system:serviceaccount:phasegate-system:phasegate"
REVISION, OTHER_REVISION = "abcdef0123", "0123456789"
DIGEST = "sha256:" + "0" * 64

Manifest = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"

_PLURALS = {kind.kind: kind.plural for kind in KINDS} | {
    "ConfigMap": "configmaps",
    "ControllerRevision": "controllerrevisions",
    "Deployment": "deployments",
    "HTTPRoute": "httproutes",
    "Service": "services",
    "Namespace": "namespaces",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "SelfSubjectAccessReview": "selfsubjectaccessreviews",
}
_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "SelfSubjectAccessReview"}


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: Mapping[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class ApiServer:
    """The API server, as one user."""

    http: httpx.Client
    namespace: str = "default"
    user: str | None = None
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        """From a kubeconfig with a bearer token, as the lab's are."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context()
        if "certificate-authority-data" in cluster:
            authority = base64.b64decode(cluster["certificate-authority-data"])
            trust = ssl.create_default_context(cadata=authority.decode())
        elif cluster.get("insecure-skip-tls-verify"):
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {user['token']}"}
        http = httpx.Client(
            base_url=cluster["server"], headers=headers, verify=trust, trust_env=False, timeout=20
        )
        return cls(http)

    def within(self, namespace: str) -> Self:
        return replace(self, namespace=namespace)

    def as_user(self, user: str, *groups: str) -> Self:
        """The same server, impersonating somebody; also a member of ``system:authenticated``."""
        return replace(self, user=user, groups=(*groups, "system:authenticated"))

    def bind(self, user: str, kind: str, name: str) -> Self:
        """The server as this user, once a binding to a Role or ClusterRole is in force."""
        granted = self.get(_rbac(kind, name)).body["rules"]
        bound = {"kind": "User", "name": user, "apiGroup": _RBAC}
        reference = {"kind": kind, "name": name, "apiGroup": _RBAC}
        binding = _rbac("RoleBinding", f"{name}-{uuid.uuid4().hex[:8]}")
        assert self.create({**binding, "roleRef": reference, "subjects": [bound]}).accepted
        somebody = self.as_user(user)
        wait_until(lambda: all(somebody.may(rule) for rule in granted))
        return somebody

    def grant(self, user: str, *rules: tuple[str, str, str], names: Sequence[str] = ()) -> Self:
        """The same for a Role of its own: rules are (group, resources, verbs), apart by blanks."""
        role = _rbac("Role", f"role-{uuid.uuid4().hex[:8]}")
        written = [
            {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
            | ({"resourceNames": list(names)} if names else {})
            for group, resources, verbs in rules
        ]
        assert self.create({**role, "rules": written}).accepted
        return self.bind(user, "Role", role["metadata"]["name"])

    def may(self, rule: Mapping[str, Any]) -> bool:
        """Whether the user has every right of an RBAC rule in the namespace."""
        return all(
            self.create(
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SelfSubjectAccessReview",
                    "spec": {
                        "resourceAttributes": {
                            "namespace": self.namespace,
                            "group": group,
                            "resource": resource.partition("/")[0],
                            "subresource": resource.partition("/")[2],
                            "verb": verb,
                            "name": name,
                        }
                    },
                }
            ).body["status"]["allowed"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames", [""])
        )

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Answer:
        """What plain ``kubectl apply`` sends for a new object."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._send("POST", self._path(manifest), manifest, query)

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Answer:
        """What ``kubectl apply --server-side`` sends."""
        query = {"fieldValidation": "Strict", "fieldManager": "test", "force": "true"}
        path = f"{self._path(manifest)}/{manifest['metadata']['name']}"
        return self._send(
            "PATCH",
            path,
            manifest,
            query | ({"dryRun": "All"} if dry_run else {}),
            "application/apply-patch+yaml",
        )

    def patch(self, manifest: Manifest, change: Manifest, subresource: str = "") -> Answer:
        """A merge patch of an object, or of one of its subresources."""
        return self._send(
            "PATCH",
            self._object(manifest, subresource),
            change,
            {"fieldValidation": "Strict"},
            "application/merge-patch+json",
        )

    def get(self, manifest: Manifest) -> Answer:
        return self._send("GET", self._object(manifest))

    def list(self, kind: str, **query: str) -> Answer:
        return self._send("GET", self._path({"apiVersion": API_VERSION, "kind": kind}), None, query)

    def delete(self, manifest: Manifest) -> Answer:
        return self._send("DELETE", self._object(manifest))

    def _object(self, manifest: Manifest, subresource: str = "") -> str:
        path = f"{self._path(manifest)}/{manifest['metadata']['name']}"
        return f"{path}/{subresource}" if subresource else path

    def _path(self, manifest: Manifest) -> str:
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if kind not in _CLUSTER_WIDE:
            root += f"/namespaces/{self.namespace}"
        return f"{root}/{_PLURALS[kind]}"

    def _send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Answer:
        headers = [("Content-Type", content)]
        if self.user:
            headers.append(("Impersonate-User", self.user))
            headers += [("Impersonate-Group", group) for group in self.groups]
        answer = self.http.request(method, path, json=body, params=query, headers=headers)
        return Answer(answer.status_code, answer.json())


def good(kind: str) -> Manifest:
    """A manifest of this kind that is accepted: the samples, and one of each other kind."""
    if kind in ("AgentDeployment", "RollbackPolicy"):
        text = (ROOT / "config/samples" / f"{kind.lower()}.yaml").read_text()
        return dict(yaml.safe_load(text))
    specs: Mapping[str, Manifest] = {
        "RolloutAction": {
            "agent": "support-agent",
            "verb": "Rollback",
            "revision": REVISION,
            "reason": "customers complain",
            "actor": "admin",
        },
        "AgentRollout": {
            "agent": "support-agent",
            "number": 1,
            "revision": REVISION,
            "digest": DIGEST,
            "fromRevision": OTHER_REVISION,
            "fromDigest": DIGEST,
        },
    }
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": "support-agent-1"},
        "spec": specs[kind],
    }


def changed(manifest: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7386): null takes out, objects merge, all else replaces."""
    if not isinstance(change, dict):
        return change
    base = manifest if isinstance(manifest, dict) else {}
    merged = {key: value for key, value in base.items() if change.get(key, "") is not None}
    for key, value in change.items():
        if value is not None:
            merged[key] = changed(base.get(key), value)
    return merged


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask until it is so; the test's own time limit ends the asking."""
    while not condition():
        pass


def _rbac(kind: str, name: str) -> Manifest:
    return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": {"name": name}}
