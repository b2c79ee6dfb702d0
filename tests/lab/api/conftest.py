"""A real API server with Phasegate's CRDs, RBAC and admission policies, one namespace per test."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.api.apiserver import ROOT, ApiServer, good, wait_until

KIND_RIGHTS = (
    ("phasegate.dev", "agentdeployments rollbackpolicies", "get list create update patch delete"),
    ("phasegate.dev", "rolloutactions", "get list create"),
)


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The admin's kubeconfig: of a running API server if one is given, else of a lab without operator."""
    given = os.environ.get("PHASEGATE_TEST_KUBECONFIG")
    return Path(given) if given else Path(request.getfixturevalue("quiet_lab").kubeconfig)


@pytest.fixture(scope="session")
def server(kubeconfig: Path) -> Iterator[ApiServer]:
    """The API server as admin, once what config/default brings is in force."""
    kubectl = Path(sys.executable).parent / "kubectl"
    subprocess.run(
        [kubectl, "apply", "--server-side", "--force-conflicts", "-k", ROOT / "config/default"],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        check=True,
        capture_output=True,
    )
    server = ApiServer.of(kubeconfig)
    with server.http:
        wait_until(lambda: server.create(good("AgentRollout"), dry_run=True).status == 403)
        yield server


@pytest.fixture
def api(server: ApiServer) -> Iterator[ApiServer]:
    """The API server as admin, in a namespace of the test's own."""
    yield from _namespace(server)


@pytest.fixture(scope="module")
def module_api(server: ApiServer) -> Iterator[ApiServer]:
    """The same for a whole module whose tests leave nothing behind."""
    yield from _namespace(server)


def _namespace(server: ApiServer) -> Iterator[ApiServer]:
    name = f"api-{uuid.uuid4().hex[:8]}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert server.create(manifest).accepted
    within = server.within(name)
    within.grant("tenant", *KIND_RIGHTS)
    yield within
    server.delete(manifest)
