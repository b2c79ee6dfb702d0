"""The operator in the shared lab, and one agent per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.main_job.cluster import Api
from tests.lab.main_job.story import Story


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Iterator[Api]:
    """The API server as admin, with the operator at work."""
    lab.start_operator()
    with Api.of(lab, "admin") as api:
        yield api


@contextmanager
def _story(lab: Lab, admin: Api, folder: Path) -> Iterator[Story]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", namespace)
    with Story.begin(lab, admin.within(namespace), folder) as story:
        yield story
    lab.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def story(lab: Lab, admin: Api, tmp_path: Path) -> Iterator[Story]:
    """An agent that does not exist yet, in a namespace of the test's own."""
    with _story(lab, admin, tmp_path) as story:
        yield story


@pytest.fixture(scope="module")
def told(lab: Lab, admin: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The same for a module whose tests only read how one story went."""
    with _story(lab, admin, tmp_path_factory.mktemp("story")) as story:
        yield story
