"""``phasegate prune``: delete records and decisions that have been kept for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from phasegate.adapters.config import OperatorConfig, load_config
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.errors import Refused
from phasegate.cli.stored import Json, about, cluster_options, connected, listed
from phasegate.control.kinds import AGENT_ROLLOUT, ROLLOUT_ACTION
from phasegate.rollout.retention import Retention, outlived

_KINDS = ("AgentDeployment", "AgentRollout", "RolloutAction")


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.argument("agent", required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The operator's configuration, with its `retention`.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@cluster_options
def prune(
    agent: str | None,
    config: Path | None,
    dry_run: bool,
    namespace: str,
    everywhere: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Delete what retention does not keep, of AGENT or of all agents.

    Needs the rights of config/retention: the operator itself deletes no record.
    """
    settings = load_config(config) if config is not None else OperatorConfig()
    where = None if everywhere else namespace
    rule = settings.retention.rule()

    async def work() -> int:
        async with connected(kubeconfig, context) as cluster:
            found = about(await listed(cluster, where), agent)
            gone = _outlived(found, rule)
            return len(gone) if dry_run else await _delete(cluster, gone)

    count = asyncio.run(work())
    click.echo(f"{count} {'objects would be' if dry_run else 'objects'} deleted")


def _outlived(objects: Sequence[Json], rule: Retention) -> list[Json]:
    """What goes, namespace by namespace; each is named."""
    now, gone = datetime.now(UTC), list[Json]()
    for namespace in sorted({item["metadata"]["namespace"] for item in objects}):
        here = [item for item in objects if item["metadata"]["namespace"] == namespace]
        agents, records, actions = ([i for i in here if i["kind"] == kind] for kind in _KINDS)
        gone += map(dict, outlived(agents, records, actions, rule, now))
    for item in gone:
        click.echo(f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}")
    return gone


async def _delete(cluster: KubernetesCluster, gone: Sequence[Json]) -> int:
    """Delete what is still the same object. Raises Refused with what is needed for it."""
    for item in gone:
        kind = AGENT_ROLLOUT if item["kind"] == "AgentRollout" else ROLLOUT_ACTION
        metadata = item["metadata"]
        try:
            await cluster.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except Refused as error:
            raise Refused(f"{error} (config/retention has the rights for it)") from error
    return len(gone)
