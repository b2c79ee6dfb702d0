"""The command line of the lab (`lab`, `python -m lab`)."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lab.errors import LabError, NotRunning
from lab.handle import Lab, launch, wait_until_ready
from lab.paths import DEFAULT_NAME, State
from lab.sandbox.forward import TARGETS, Forward
from lab.sandbox.host import Options, run, wait_for_end

_PROGRAMS = {"kubectl": ("kubectl",), "traffic": (sys.executable, "-m", "lab.traffic")}
_ACTIONS = ("start", "stop", "restart", "kill", "pause", "resume", "reload")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. A LabError becomes one message, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _passed_through(arguments) or _parse(arguments)
    try:
        return int(options.run(options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """What stands before `--` is ours; what follows is for the command that is run."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return _parser().parse_args(arguments[:end], argparse.Namespace(rest=arguments[end + 1 :]))


def _passed_through(arguments: list[str]) -> argparse.Namespace | None:
    """`lab kubectl …` and `lab traffic …`: only a leading --name and --user are ours."""
    if not arguments or arguments[0] not in _PROGRAMS:
        return None
    settings = {"--name": os.environ.get("PHASEGATE_LAB", DEFAULT_NAME), "--user": "admin"}
    rest = arguments[1:]
    while rest and rest[0].split("=")[0] in settings:
        key, equals, value = rest[0].partition("=")
        if not equals and len(rest) == 1:
            raise LabError(f"{key} needs a value.")
        settings[key] = value if equals else rest[1]
        rest = rest[1 if equals else 2 :]
    command = [*_PROGRAMS[arguments[0]], *rest]
    return argparse.Namespace(
        run=_exec, name=settings["--name"], user=settings["--user"], command=command, rest=[]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="An embedded Kubernetes cluster.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: object, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        named = os.environ.get("PHASEGATE_LAB", DEFAULT_NAME)
        command.add_argument("--name", default=named, help="which lab (default: %(default)s)")
        return command

    up = add("up", _up, "Start a lab and stay until Ctrl-C; with --detach, in the background.")
    up.add_argument("--detach", action="store_true", help="return as soon as the lab is ready")
    up.add_argument(
        "--forward",
        action="append",
        default=[],
        metavar="HOSTPORT:TARGET",
        help=f"listen on 127.0.0.1 of the host; TARGET: {', '.join(TARGETS)} or HOST:PORT",
    )
    up.add_argument(
        "--owner",
        type=int,
        metavar="PID",
        help="end with this process (default: the parent; 0: nobody)",
    )
    up.add_argument("--without", action="append", default=[], metavar="PART", help="leave out")
    add("down", _down, "End a lab: every process, and every file but its logs.")
    status = add("status", _status, "Show parts and addresses; exit code 1 if one is not up.")
    status.add_argument("--json", action="store_true", help="for programs")
    inside = add("exec", _exec, "Run a command inside the lab: lab exec -- COMMAND.")
    inside.add_argument("--user", default="admin", help="whose kubeconfig (default: admin)")
    inside.add_argument("command", nargs=argparse.REMAINDER)
    add("kubectl", _exec, "Run kubectl inside the lab: lab kubectl [--name N] [--user U] …")
    add("traffic", _exec, "Send requests through the gateway: lab traffic --rps 20 (see --help).")
    logs = add("logs", _logs, "Print what a part has said.")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing")
    logs.add_argument("part", nargs="?", help="such as envoy or operator; none: list them")
    shell = add("shell", _shell, "Open a shell inside the lab, with kubectl set up.")
    shell.add_argument("--user", default="admin", help="whose kubeconfig (default: admin)")
    operator = add(
        "operator", _operator, "Start the operator inside the lab; its own options go after --."
    )
    operator.add_argument("--replicas", type=int, default=1)
    operator.add_argument("--stop", action="store_true", help="end it instead")
    operator.add_argument("--kill", action="store_true", help="end it with SIGKILL instead")
    part = add("part", _part, "Stop, start, freeze one part: what a fault test does.")
    part.add_argument("action", choices=_ACTIONS)
    part.add_argument("part")
    return parser


def _up(options: argparse.Namespace) -> int:
    state = State.of(options.name)
    forwards = tuple(Forward.parse(item) for item in options.forward)
    if not options.detach:
        owner = os.getppid() if options.owner is None else options.owner
        return run(state, Options(forwards, tuple(options.without), owner))
    # The same once more, in a session of its own, so that no terminal takes it along.
    process = launch(
        state, options.forward, options.without, owner=options.owner or 0, session=True
    )
    wait_until_ready(state, process, show=True)
    print(f"lab {state.name}: it goes on in the background; end it: lab down --name {state.name}")
    return 0


def _down(options: argparse.Namespace) -> int:
    state = State.of(options.name)
    lab = Lab(state, {})
    with suppress(NotRunning):
        lab.request("down")
    wait_for_end(state)
    print(f"lab {state.name}: ended")
    return 0


def _status(options: argparse.Namespace) -> int:
    lab = Lab.attach(options.name)
    status = dict(lab.facts)
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        print(_table(status))
        if TARGETS["apiserver"] in status["forwards"]:
            print(f"{'from outside:':<16}kubectl --kubeconfig {lab.kubeconfig} get agentdep")
    wrong = [part for part in status["parts"] if part["state"] in ("failed", "paused")]
    return 1 if wrong or not status["ready"] else 0


def _table(status: dict[str, Any]) -> str:
    lines = [f"{'PART':<24}{'STATE':<9}{'PID':>6}{'MEMORY':>9}{'AGE':>8}{'STARTS':>8}  ADDRESS"]
    for part in status["parts"]:
        memory, age = f"{part['rss_mib']} MiB", f"{part['age_s']} s"
        lines.append(
            f"{part['part']:<24}{part['state']:<9}{part['pid'] or '-':>6}{memory:>9}{age:>8}"
            f"{part['starts']:>8}  {part['address']}"
        )
    lines.append("")
    lines += [f"{key + ':':<16}{status[key]}" for key in ("gateway_url", "prometheus_url")]
    for target, address in status["forwards"].items():
        lines.append(f"{'forward:':<16}{address} leads to {target}")
    folder = os.path.commonpath(status["users"].values())
    lines.append(f"{'kubeconfigs:':<16}{folder}/{{{','.join(status['users'])}}}.yaml")
    return "\n".join(lines)


def _exec(options: argparse.Namespace) -> int:
    command = [*options.command, *options.rest]
    if not command:
        raise LabError("lab exec needs a command: lab exec -- kubectl get pods")
    return _become(options, command)


def _become(options: argparse.Namespace, command: list[str]) -> int:
    """Replace this process by the command inside the lab: signals and exit code are its own."""
    argv = Lab.attach(options.name).command(command, user=options.user)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - there is no shell to go through
    except OSError as error:
        raise LabError(f"Cannot run {argv[0]}: {error}") from error


def _logs(options: argparse.Namespace) -> int:
    state = State.of(options.name)
    if options.part is None:
        print("\n".join(sorted(file.stem for file in state.logs.glob("*.log"))))
        return 0
    log = state.log(options.part)
    if not log.exists():
        names = ", ".join(sorted(file.stem for file in state.logs.glob("*.log"))) or "none"
        raise LabError(f"There is no log of {options.part!r}; there are: {names}")
    if options.follow:
        os.execvp("tail", ["tail", "-n", "+1", "-F", str(log)])  # noqa: S606
    with log.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    return 0


def _shell(options: argparse.Namespace) -> int:
    return _become(options, [os.environ.get("SHELL") or "sh"])


def _operator(options: argparse.Namespace) -> int:
    lab = Lab.attach(options.name)
    if options.stop or options.kill:
        lab.kill_operator() if options.kill else lab.stop_operator()
        return 0
    lab.start_operator(options.replicas, options.rest)
    print(f"lab {lab.name}: the operator runs; follow it: lab logs -f operator --name {lab.name}")
    return 0


def _part(options: argparse.Namespace) -> int:
    Lab(State.of(options.name), {}).part(options.action, options.part)
    return 0
