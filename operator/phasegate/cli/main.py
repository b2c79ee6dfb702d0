"""The ``phasegate`` command, which is also ``kubectl phasegate``."""

from __future__ import annotations

import importlib
from typing import cast

import click

from phasegate.api.errors import PhasegateError

#: Command → what it does. Each is a click command of its name in ``phasegate.cli.<name>``.
_COMMANDS = {
    "backtest": "A policy over history: what would have been decided, and when.",
    "crds": "Generate the CustomResourceDefinitions from the API models.",
    "export": "An agent's records as one file.",
    "judge": "The decision engine over JSON lines: one verdict per scrape.",
    "operator": "Run the operator.",
    "plan": "How long each gate will take, and what it will catch, before anything starts.",
    "prune": "Delete records and decisions that have been kept for long enough.",
    "verify": "Whether stored records are what the operator wrote.",
}


class _Commands(click.Group):
    """Commands whose module is imported when they are used: help and start stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"phasegate.cli.{cmd_name}")
        return cast(click.Command, getattr(module, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PhasegateError as error:
            raise click.ClickException(str(error)) from error


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="phasegate")
def main() -> None:
    """Progressive delivery for AI agents on Kubernetes."""
