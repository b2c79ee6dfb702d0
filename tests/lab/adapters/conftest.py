"""The operator's own credentials at the lab's API server: what the shipped RBAC allows, no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import yaml
from phasegate.adapters.access import Access
from phasegate.adapters.kubernetes import KubernetesCluster

from lab import Lab


@pytest.fixture(scope="session")
def access(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Access:
    """The operator's access: a token of its ServiceAccount."""
    token = lab.kubectl("create", "token", "phasegate", "-n", "phasegate-system").strip()
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    file = tmp_path_factory.mktemp("operator") / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return Access(file)


@pytest.fixture(scope="session")
def admin_access(lab: Lab) -> Access:
    """The admin's access."""
    return Access(lab.kubeconfig)


@pytest.fixture(scope="session")
def lab(quiet_lab: Lab) -> Lab:
    """One in which no operator writes what these tests write."""
    return quiet_lab


@pytest.fixture
async def operator(access: Access) -> AsyncIterator[KubernetesCluster]:
    """The API server as the operator."""
    connected = await KubernetesCluster.connect(access)
    yield connected
    await connected.close()


@pytest.fixture
def cluster(operator: KubernetesCluster) -> KubernetesCluster:
    """The API server, as most tests here see it: as the operator."""
    return operator


@pytest.fixture
async def admin(admin_access: Access) -> AsyncIterator[KubernetesCluster]:
    """The API server as somebody who may do everything: users, and other controllers."""
    connected = await KubernetesCluster.connect(admin_access)
    yield connected
    await connected.close()
