"""Objects as they are stored, from a cluster or from files: nothing is dropped that is not known."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import yaml

from phasegate.adapters.access import Access
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.base import API_VERSION
from phasegate.api.errors import InvalidSpec
from phasegate.control import kinds
from phasegate.control.ports import Kind

Json = dict[str, Any]
KINDS: Final = (kinds.AGENT_DEPLOYMENT, kinds.ROLLOUT_ACTION, kinds.AGENT_ROLLOUT)
"""Records last: agents and answers speak of what is recorded already, never of what will be."""
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _AsWritten(yaml.SafeLoader):
    """Times stay the text that was hashed."""


_AsWritten.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of a command that reads a cluster."""
    for option in (
        click.option("--context", help="Context of the kubeconfig."),
        click.option("--kubeconfig", type=click.Path(path_type=Path), help="How to reach it."),
        click.option("-A", "everywhere", is_flag=True, help="All namespaces."),
        click.option("-n", "--namespace", default="default", show_default=True),
    ):
        command = option(command)
    return command


@asynccontextmanager
async def connected(
    kubeconfig: Path | None, context: str | None
) -> AsyncIterator[KubernetesCluster]:
    """The cluster, closed at the end."""
    cluster = await KubernetesCluster.connect(Access(kubeconfig, context))
    try:
        yield cluster
    finally:
        await cluster.close()


async def listed(
    cluster: KubernetesCluster, namespace: str | None, wanted: Iterable[Kind] = KINDS
) -> list[Json]:
    """All objects of these kinds in a namespace, or everywhere (None), read one kind after the other."""
    return [dict(item) for kind in wanted for item in await cluster.list(kind, namespace)]


def about(objects: Iterable[Json], agent: str | None) -> list[Json]:
    """Those about an agent: itself, its records, and what people decided about it."""
    return [item for item in objects if agent is None or agent_of(item) == agent]


def agent_of(item: Json) -> str:
    """The agent that an object is about."""
    part, field = ("spec", "agent")
    if item.get("kind") == "AgentDeployment":
        part, field = ("metadata", "name")
    held = item.get(part)
    return str(held.get(field, "")) if isinstance(held, dict) else ""


def read(files: Sequence[Path]) -> list[Json]:
    """Phasegate's objects of YAML or JSON files. Raises InvalidSpec."""
    found: list[Any] = []
    for path in files:
        for document in _documents(path):
            items = document.get("items") if isinstance(document, dict) else None
            found += items if isinstance(items, list) else [document]
    known = {kind.kind for kind in KINDS}
    return [
        item
        for item in found
        if isinstance(item, dict)
        and item.get("apiVersion") == API_VERSION
        and item.get("kind") in known
    ]


def _documents(path: Path) -> list[Any]:
    try:
        text = path.read_text("utf-8")
        if text.lstrip().startswith("{"):
            try:
                return [json.loads(text)]
            except json.JSONDecodeError:
                return [json.loads(line) for line in text.splitlines() if line.strip()]
        # As JSON has it: no keys but strings, nothing but text, numbers, lists and maps.
        return list(json.loads(json.dumps(list(yaml.load_all(text, _AsWritten)))))
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidSpec(f"{path}: is neither YAML nor JSON: {error}") from error
