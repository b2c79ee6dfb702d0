"""``phasegate verify``: whether stored records are what was written."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from phasegate.api.errors import PhasegateError
from phasegate.cli.stored import Json, about, cluster_options, connected, listed, read
from phasegate.rollout.verifying import Report
from phasegate.rollout.verifying import verify as examine

ALTERED: Final = 1
UNREADABLE: Final = 2


@click.command(context_settings={"auto_envvar_prefix": "PHASEGATE"})
@click.argument("agent", required=False)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Objects in YAML or JSON, as kubectl or `phasegate export` wrote them; not the cluster's.",
)
@cluster_options
def verify(
    agent: str | None,
    files: Sequence[Path],
    namespace: str,
    everywhere: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Whether the records of attempts are what the operator wrote: of AGENT, or of all agents.

    Exit code 0: nothing was altered; 1: something was; 2: there is nothing to verify, or it cannot
    be read.
    """
    try:
        if files:
            objects = read(files)
        else:
            where = None if everywhere else namespace
            objects = asyncio.run(_live(kubeconfig, context, where))
    except PhasegateError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(UNREADABLE)
    objects = about(objects, agent)
    if not any(item["kind"] == "AgentRollout" for item in objects):
        click.echo("Error: there is no record", err=True)
        sys.exit(UNREADABLE)
    reports = list(examine(objects))
    for report in reports:
        click.echo("\n".join(_lines(report)))
    sys.exit(ALTERED if any(report.altered for report in reports) else 0)


async def _live(kubeconfig: Path | None, context: str | None, where: str | None) -> list[Json]:
    async with connected(kubeconfig, context) as cluster:
        return await listed(cluster, where)


def _lines(report: Report) -> Iterator[str]:
    entries = f": {report.entries} entries" if report.entries else ""
    yield f"{'ALTERED' if report.altered else 'OK':8} {report.name}{entries}"
    yield from (f"         {what}" for what in report.altered)
    yield from (f"         note: {what}" for what in report.notes)
