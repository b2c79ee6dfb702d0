"""``phasegate export``: an agent's records as one file, which outlives the cluster."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from phasegate.api.errors import InvalidSpec, NotFound
from phasegate.cli.stored import KINDS, Json, about, cluster_options, connected, listed
from phasegate.control.kinds import CONTROLLER_REVISION
from phasegate.rollout.labels import AGENT


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.argument("agent")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write; in a folder, <namespace>-<agent>.json.",
)
@click.option("--rollout", help="Only this attempt's record, its revisions and decisions.")
@cluster_options
def export(
    agent: str,
    out: Path,
    rollout: str | None,
    namespace: str,
    everywhere: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Write AGENT's records, revisions and people's decisions as JSON that `verify -f` accepts.

    Revisions contain prompts and pod templates: keep the file as you keep those.
    """
    if everywhere:
        raise click.UsageError("an agent is in one namespace: use -n")
    items = asyncio.run(_items(agent, namespace, kubeconfig, context))
    if rollout is not None:
        items = _of(items, rollout)
    if not any(item["kind"] == "AgentRollout" for item in items):
        raise NotFound(f"{namespace}/{agent} has no record" + (f" {rollout}" if rollout else ""))
    path = out / f"{namespace}-{rollout or agent}.json" if out.is_dir() else out
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror}") from error
    click.echo(f"{path}: {len(items)} objects")


async def _items(
    agent: str, namespace: str, kubeconfig: Path | None, context: str | None
) -> list[Json]:
    async with connected(kubeconfig, context) as cluster:
        found = about(await listed(cluster, namespace, KINDS), agent)
        revisions = await cluster.list(CONTROLLER_REVISION, namespace, f"{AGENT}={agent}")
        return [_plain(item) for item in (*found, *map(dict, revisions))]


def _plain(item: Json) -> Json:
    """Without the API server's notes on who wrote which field."""
    metadata = {k: v for k, v in item["metadata"].items() if k != "managedFields"}
    return {**item, "metadata": metadata}


def _of(items: list[Json], rollout: str) -> list[Json]:
    """One attempt of an agent's."""
    records = [i for i in items if i["kind"] == "AgentRollout" and i["metadata"]["name"] == rollout]
    tried = {r["spec"].get(field) for r in records for field in ("digest", "fromDigest")}
    return [
        *records,
        *(
            item
            for item in items
            if (
                item["kind"] == "RolloutAction"
                and (item.get("status") or {}).get("rollout") == rollout
            )
            or (item["kind"] == "ControllerRevision" and item["data"].get("digest") in tried)
        ),
    ]
