"""A lab without an operator of its own, so that each test brings one that it may treat badly.

The shared lab's operator acts in all namespaces; beside it a test could not tell who did what, nor
stop an operator without stopping everybody's. `quiet_lab` has none: its operators are
`lab.faults.OperatorProcess`es, each restricted to its test's namespace and reaching the API server
through a `lab.faults.FaultProxy` of its own.

Parts of `quiet_lab` (API server, etcd, Envoy Gateway) may be stopped or paused by a test that has
them running again at its end: tests on the lab run one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.faults import FaultProxy
from tests.lab.faults.scene import Scene, opened
from tests.lab.main_job.cluster import Api


@pytest.fixture(scope="session")
def quiet_admin(quiet_lab: Lab) -> Iterator[Api]:
    """Its API server as admin, without a proxy between."""
    with Api.of(quiet_lab, "admin") as api:
        yield api


@pytest.fixture
def proxy(quiet_lab: Lab, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy of the test's own."""
    with FaultProxy(quiet_lab, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def scene(quiet_lab: Lab, quiet_admin: Api, tmp_path: Path) -> Iterator[Scene]:
    """A namespace, a story in it, and an operator for it behind a proxy. It needs no lease."""
    with opened(quiet_lab, quiet_admin, tmp_path) as scene:
        yield scene
