"""`python -m lab.traffic`, run inside the lab by `lab traffic`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from pathlib import Path
from typing import Any, TextIO

import click

from lab.traffic.generator import Generator, Plan
from lab.traffic.tally import Result, Tally, line, table

STATS_EVERY_S = 0.25
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


class Duration(click.ParamType[float]):
    """A length of time with units, such as `90s`, `10m` or `1h30m`, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; a length without a unit is refused."""
        if isinstance(value, float):
            return value
        parts = _PART.findall(str(value))
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is not a duration such as 90s, 10m or 1h30m", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


class Observer:
    """Counts results, and writes them where they are wanted."""

    def __init__(self, record: TextIO | None, stats: Path | None) -> None:
        self.tally = Tally()
        self._second: list[Result] = []
        self._record = record
        self._stats = stats
        self._begun = time.time()

    def report(self, result: Result) -> None:
        """Take note of one result."""
        self.tally.add(result)
        self._second.append(result)
        if self._record is not None:
            self._record.write(json.dumps(result.record()) + "\n")

    async def watch(self, generator: Generator, quiet: bool) -> None:
        """Print a line each second and keep the stats file fresh, until cancelled."""
        behind, beats = 0, 0
        while True:
            await asyncio.sleep(STATS_EVERY_S)
            beats += 1
            self.write_stats(generator)
            if beats * STATS_EVERY_S >= 1:
                second, self._second, beats = self._second, [], 0
                if not quiet:
                    stamp = time.strftime("%H:%M:%S")
                    click.echo(f"{stamp}  {line(second, generator.not_sent - behind)}", err=True)
                behind = generator.not_sent

    def write_stats(self, generator: Generator) -> None:
        """Replace the stats file as a whole, so that readers never see half of it."""
        if self._record is not None:
            self._record.flush()
        if self._stats is None:
            return
        fresh = self._stats.with_name(self._stats.name + ".new")
        fresh.write_text(json.dumps(self.summary(generator)), encoding="utf-8")
        fresh.replace(self._stats)

    def summary(self, generator: Generator) -> dict[str, Any]:
        """Return the totals with the times they stand for (seconds since the epoch)."""
        counts = {"in_flight": generator.in_flight, "not_sent": generator.not_sent}
        return {"begun": self._begun, "updated": time.time(), **counts, **self.tally.summary()}


async def run(plan: Plan, observer: Observer, quiet: bool) -> dict[str, Any]:
    """Send the plan's requests until done or SIGINT/SIGTERM; returns the summary."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    generator = Generator(plan, observer.report)
    watching = asyncio.create_task(observer.watch(generator, quiet))
    try:
        await generator.run(stop)
    finally:
        watching.cancel()
        observer.write_stats(generator)
    return observer.summary(generator)


@click.command(context_settings={"show_default": True})
@click.option("--rps", default=20.0, type=click.FloatRange(0.01, 5000), help="Requests a second.")
@click.option("--sessions", default=200, type=click.IntRange(1, 100_000), help="Distinct users.")
@click.option("--duration", default="10m", type=Duration(), help="How long to send.")
@click.option("--until-stopped", is_flag=True, help="Send until Ctrl-C instead.")
@click.option("--url", envvar="PHASEGATE_GATEWAY_URL", required=True, help="Where to send.")
@click.option("--host", "hostname", help="Host header: which HTTPRoute is meant.")
@click.option("--path", default="/v1/chat", help="Path below the URL.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Send along.")
@click.option("--max-in-flight", default=500, type=click.IntRange(1), help="Open requests.")
@click.option("--timeout", default="10s", type=Duration(), help="Longest wait for an answer.")
@click.option("--seed", default=0, help="Seed of the choice of sessions and messages.")
@click.option("--record", type=click.File("a"), help="Append each result as a JSON line.")
@click.option("--stats", type=click.Path(path_type=Path), help="Keep the totals in a JSON file.")
@click.option("--json", "as_json", is_flag=True, help="Print the final totals as JSON.")
@click.option("--quiet", is_flag=True, help="No line each second.")
def main(**options: Any) -> None:
    """Send chat messages to an agent through the gateway, and say what users got.

    Prints a line each second (on standard error) and a table at the end.
    """
    headers = dict(_header(text) for text in options["headers"])
    if options["hostname"]:
        headers["Host"] = options["hostname"]
    plan = Plan(
        url=options["url"].rstrip("/") + "/" + options["path"].lstrip("/"),
        rps=options["rps"],
        sessions=options["sessions"],
        duration=None if options["until_stopped"] else options["duration"],
        max_in_flight=options["max_in_flight"],
        timeout=options["timeout"],
        headers=headers,
        seed=options["seed"],
    )
    observer = Observer(options["record"], options["stats"])
    summary = asyncio.run(run(plan, observer, options["quiet"]))
    click.echo(json.dumps(summary, indent=2) if options["as_json"] else table(observer.tally))
    if summary["not_sent"] and not options["as_json"]:
        click.echo(f"not sent, too many in flight: {summary['not_sent']}")


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--header")
    return name, value


if __name__ == "__main__":
    main(prog_name="lab traffic")
