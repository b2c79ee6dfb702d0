"""One lab for all tests of a run (and for all its workers), one namespace per test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab around this run (`lab exec -- pytest`), else one that lives as long as the run.

    From the host, API server, Gateway and Prometheus are reached through forwards.
    """
    if "PHASEGATE_LAB" in os.environ:
        return Lab.current()
    # The workers of a parallel run are children of the process that people started.
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    forwards = ("0:apiserver", "0:gateway", "0:prometheus")
    return Lab.shared(f"test-{owner}", owner, forwards)


@pytest.fixture(scope="session")
def quiet_lab() -> Iterator[Lab]:
    """A whole lab of this run's own in which no operator runs."""
    forwards = ("0:apiserver", "0:gateway", "0:prometheus")
    with Lab.up(f"quiet-{os.getpid()}", forwards=forwards) as lab:
        yield lab


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards (without waiting for it)."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", name)
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def fragile() -> Iterator[Lab]:
    """A lab of this worker's own, with an operator that may be killed and rights that may be taken."""
    with Lab.up(f"fragile-{os.getpid()}") as lab:
        lab.start_operator()
        yield lab
