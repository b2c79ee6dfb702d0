"""One agent's story under an operator of its own, with a proxy between it and the API server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Lab
from lab.faults import FaultProxy, OperatorProcess
from tests.lab.main_job.cluster import Api
from tests.lab.main_job.story import Story


@dataclass(frozen=True)
class Scene:
    """What a fault test works with."""

    lab: Lab
    api: Api
    """As admin in the story's namespace, not through the proxy."""
    story: Story
    proxy: FaultProxy
    operator: OperatorProcess

    @property
    def namespace(self) -> str:
        return self.api.namespace


@contextmanager
def a_namespace(lab: Lab) -> Iterator[str]:
    """A new namespace, deleted afterwards (without waiting for it)."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", name)
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@contextmanager
def opened(lab: Lab, admin: Api, folder: Path, **options: Any) -> Iterator[Scene]:
    """A scene; `options` are those of OperatorProcess."""
    with a_namespace(lab) as namespace, FaultProxy(lab, folder) as proxy:
        usual: dict[str, Any] = {"kubeconfig": proxy.kubeconfig, "namespaces": [namespace]}
        api = admin.within(namespace)
        with (
            OperatorProcess(lab, folder, **{**usual, **options}) as operator,
            Story.begin(lab, api, folder) as story,
        ):
            yield Scene(lab, api, story, proxy, operator)
