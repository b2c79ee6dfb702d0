"""`python -m lab.demo`: from nothing to both stories. Brings up a lab and the operator, then plays.

Exit code 0 only if every act ended as it must.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from lab.demo.acts import AGENT, HOST, NAMESPACE, RPS
from lab.demo.opening import follow
from lab.errors import LabError
from lab.handle import Lab, launch
from lab.paths import State

_END_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; a LabError becomes one message."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        return _demo(options, console)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description="Both stories.")
    parser.add_argument("--name", default="demo", help="what to call the lab (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live picture")
    return parser


def _demo(options: argparse.Namespace, console: Console) -> int:
    began = time.time()
    state = State.of(options.name)
    console.print("[bold cyan]Phasegate[/]: progressive delivery for AI agents, on real parts\n")
    process = launch(state, owner=0 if options.keep else os.getpid(), session=True)
    try:
        follow(state, process, console)
        lab = Lab.attach(options.name)
        _operator(lab, console)
        code = _play(lab, began, options.plain)
    except BaseException:
        _end(process)
        raise
    if options.keep:
        _what_next(console, options.name)
    else:
        _end(process)
    return code


def _operator(lab: Lab, console: Console) -> None:
    """Start the operator as in any lab, but for a status whose numbers are written every second."""
    config = lab.state.tmp / "demo-operator.yaml"
    provider = {"default": {"url": lab.prometheus_url}}
    config.write_text(yaml.safe_dump({"providers": provider, "refresh": {"rollout": "1s"}}))
    began = time.monotonic()
    lab.start_operator(extra=[f"--config={config}"])
    took = f"{time.monotonic() - began:.1f} s"
    about = "Phasegate, with config/rbac's rights only"
    console.print(f"  [green]✓[/] {'operator':<24} [dim]{took:>7}[/]  {about}")


def _play(lab: Lab, began: float, plain: bool) -> int:
    """Run the play inside the lab, on this terminal; its exit code.

    It has a session of its own, because a Ctrl-C would kill what enters the lab for it and leave
    the terminal as it is; it ends when its standard input does.
    """
    argv = [sys.executable, "-m", "lab.demo.play", "--lifeline", f"--began={began}"]
    argv += ["--plain"] if plain else []
    process = subprocess.Popen(lab.command(argv), stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    try:
        return process.wait()
    finally:
        process.stdin.close()
        process.wait(timeout=_END_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=_END_S)


def _what_next(console: Console, name: str) -> None:
    beside = Path(sys.executable).parent
    lab = "lab" if str(beside) in os.environ.get("PATH", "") else f"{_short(beside)}/lab"
    on = f"--name {name}"
    commands = (
        (f"{lab} traffic {on} --host {HOST} --rps {RPS:.0f} --until-stopped", "users again"),
        (f"{lab} kubectl {on} get agentdep {AGENT} -n {NAMESPACE} -w", "the story in one line"),
        (f"{lab} kubectl {on} describe agentdep {AGENT} -n {NAMESPACE}", "in one screen"),
        (f"{lab} kubectl {on} edit agentdep {AGENT} -n {NAMESPACE}", "change the prompt"),
        (f"{lab} kubectl {on} get agentrollouts -n {NAMESPACE}", "every attempt's record"),
        (f"{lab} logs -f operator {on}", "what the operator says"),
        (f"{lab} status {on}", "the parts"),
        (f"{lab} down {on}", "end it all"),
    )
    console.print("\n[bold]The lab goes on.[/] Play with it:\n")
    width = max(len(command) for command, _ in commands)
    for command, meaning in commands:
        console.print(f"  {command:<{width}}  # {meaning}", soft_wrap=True, markup=False)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
