"""`Lab`: a lab as an object, for tests, the demo and benchmarks. Standard library only.

Two ways to use it, both with the same methods:

- *From outside*: `with Lab.up("ci") as lab: lab.kubectl("get", "pods")`. The program stays in the
  host's network; `exec` and `kubectl` enter the lab for each command.
- *From inside*, the simplest for tests and benchmarks: `lab exec -- pytest tests/lab`. The whole
  program then is in the lab's network, its HTTP clients reach `lab.gateway_url` and pods directly,
  and `Lab.current()` is the lab around it.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError, NotRunning, StartFailed
from lab.paths import DEFAULT_NAME, State, checkout
from lab.sandbox.forward import TARGETS
from lab.sandbox.host import locked
from lab.sandbox.namespaces import connect, enter_command, is_inside

_POLL_S = 0.05
_END_S = 30.0


@dataclass(frozen=True)
class Lab:
    """A running lab."""

    state: State
    facts: Mapping[str, Any]

    @classmethod
    def attach(cls, name: str = DEFAULT_NAME) -> Lab:
        """The running lab of this name, be it still coming up; NotRunning if there is none."""
        state = State.of(name)
        return cls(state, cls(state, {}).request("status"))

    @classmethod
    def current(cls) -> Lab:
        """The lab that this program runs in (`lab exec`); NotRunning outside of one."""
        name = os.environ.get("PHASEGATE_LAB")
        if not name:
            raise NotRunning("This program does not run inside a lab: lab exec -- COMMAND")
        return cls.attach(name)

    @classmethod
    @contextmanager
    def up(
        cls, name: str = DEFAULT_NAME, *, forwards: Sequence[str] = (), without: Sequence[str] = ()
    ) -> Iterator[Lab]:
        """Bring a lab up for the block; it also ends when this process is killed.

        Args:
            name: what to call it; one lab per name.
            forwards: `HOSTPORT:TARGET`, as of `lab up --forward`; port 0 takes a free one.
            without: parts to leave out, such as `envoy-gateway`.

        Raises:
            AlreadyRunning: there is one of this name.
            StartFailed: with everything the lab said while it came up.
        """
        state = State.of(name)
        process = launch(state, forwards, without, owner=os.getpid())
        try:
            wait_until_ready(state, process)
            yield cls.attach(name)
        finally:
            process.terminate()
            process.wait(timeout=_END_S)

    @classmethod
    def shared(cls, name: str, owner: int, forwards: Sequence[str] = ()) -> Lab:
        """The lab of this name, brought up by the first who asks; it ends with process `owner`.

        So that several processes (the workers of a test run) use one lab.
        """
        state = State.of(name)
        state.dir.mkdir(parents=True, exist_ok=True)
        with state.first.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                return cls.attach(name)
            except NotRunning:
                command = up_command(state, forwards, owner=owner)
                done = subprocess.run(
                    [*command, "--detach"],
                    check=False,
                    capture_output=True,
                    text=True,
                    env=_environment(),
                )
            if done.returncode != 0:
                raise StartFailed(done.stdout + done.stderr)
            return cls.attach(name)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.state.name

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig, with an address that works where this program runs.

        Outside the lab that takes a forward to `apiserver`; without one it is for use inside.
        """
        address = self.address("apiserver")
        if address == TARGETS["apiserver"]:
            return self.user("admin")
        path = self.user("outside")
        inside = self.user("admin").read_text()
        path.touch(mode=0o600)
        path.write_text(inside.replace(TARGETS["apiserver"], address))
        return path

    def user(self, name: str) -> Path:
        """The kubeconfig of `alice`, `bob`, `carol`, `gitops-bot`, `admin` or `operator`.

        For use inside the lab.
        """
        return self.state.kubeconfig(name)

    def address(self, target: str) -> str:
        """The host:port at which this program reaches `apiserver`, `gateway` or `prometheus`."""
        inside = TARGETS[target]
        if is_inside(self.state):
            return inside
        forwards: dict[str, str] = json.loads(self.state.forwards.read_text())
        return forwards.get(inside, inside)

    @property
    def gateway_url(self) -> str:
        """The Gateway's URL, as this program reaches it."""
        return f"http://{self.address('gateway')}".removesuffix(":80")

    @property
    def prometheus_url(self) -> str:
        """Prometheus' URL, as this program reaches it."""
        return f"http://{self.address('prometheus')}"

    def request(self, op: str, **details: Any) -> dict[str, Any]:
        """Ask the lab something (`lab.cluster.control`); LabError with its reason for a no."""
        with connect(self.state) as sock, sock.makefile("rwb") as stream:
            stream.write(json.dumps({"op": op, **details}).encode() + b"\n")
            stream.flush()
            line = stream.readline()
        if not line:
            raise NotRunning(f"The lab {self.name!r} ended while it was asked.")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise LabError(answer["error"])
        return answer

    def environment(self, user: str = "admin") -> dict[str, str]:
        """What commands in the lab get beside the caller's environment."""
        beside = str(Path(sys.executable).parent)
        return {
            "PHASEGATE_LAB": self.name,
            "PHASEGATE_LAB_STATE": str(self.state.dir.parent),
            "PHASEGATE_GATEWAY_URL": str(self.facts["gateway_url"]),
            "PHASEGATE_PROMETHEUS_URL": str(self.facts["prometheus_url"]),
            "KUBECONFIG": str(self.user(user)),
            "KUBECACHEDIR": str(self.state.tmp / "kubectl"),
            "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def command(self, argv: Sequence[str], user: str = "admin") -> list[str]:
        """The command line that runs `argv` inside the lab from here."""
        return enter_command(self.state, argv, self.environment(user))

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str = "admin",
        check: bool = True,
        input: str | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the lab and give its exit code and output.

        Args:
            argv: program and arguments.
            user: whose kubeconfig the command finds in KUBECONFIG.
            check: raise LabError with the command's standard error if it fails.
            input: text for its standard input.
            timeout: seconds until it is killed.
        """
        done = subprocess.run(
            self.command(argv, user),
            check=False,
            capture_output=True,
            text=True,
            input=input,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{' '.join(argv)} exited with {done.returncode}: {said}")
        return done

    def kubectl(
        self, *arguments: str, user: str = "admin", check: bool = True, input: str | None = None
    ) -> str:
        """Run kubectl inside the lab as one of its users; what it printed."""
        return self.exec(["kubectl", *arguments], user=user, check=check, input=input).stdout

    def status(self) -> dict[str, Any]:
        """All parts (state, pid inside the lab, memory) and addresses."""
        return self.request("status")

    def part(self, action: str, name: str) -> None:
        """Do `start`, `stop`, `restart`, `kill`, `pause`, `resume` or `reload` to one part."""
        self.request("part", action=action, part=name)

    def log(self, part: str) -> str:
        """Everything a part has printed."""
        return self.state.log(part).read_text(errors="replace")

    def start_operator(self, replicas: int = 1, extra: Sequence[str] = ()) -> None:
        """Start the operator (again, after it was killed); returns when it is healthy.

        `extra` goes to the operator's command line. Raises LabError with its last words.
        """
        self.request("operator", replicas=replicas, extra=list(extra))

    def kill_operator(self) -> None:
        """SIGKILL all replicas of the operator."""
        self.request("stop-operator", signal="SIGKILL")

    def stop_operator(self) -> None:
        """SIGTERM all replicas of the operator and wait for their end."""
        self.request("stop-operator", signal="SIGTERM")


def launch(
    state: State,
    forwards: Sequence[str] = (),
    without: Sequence[str] = (),
    *,
    owner: int = 0,
    session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `lab up` as a process, which says into `state.output` how it goes.

    It ends with process `owner` (0: with nobody). With `session` it has a session of its own, so
    that no Ctrl-C of this terminal reaches it. Raises AlreadyRunning.
    """
    with locked(state):  # or the running one's output and readiness would be taken for ours
        pass
    state.logs.mkdir(parents=True, exist_ok=True)
    with state.output.open("wb") as file:
        return subprocess.Popen(
            up_command(state, forwards, without, owner),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(),
            start_new_session=session,
        )


def up_command(
    state: State, forwards: Sequence[str] = (), without: Sequence[str] = (), owner: int = 0
) -> list[str]:
    """The command line of `lab up`."""
    command = [sys.executable, "-m", "lab", "up", "--name", state.name, f"--owner={owner}"]
    command += [f"--forward={item}" for item in forwards]
    return command + [f"--without={item}" for item in without]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(checkout()), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def wait_until_ready(state: State, process: subprocess.Popen[bytes], show: bool = False) -> None:
    """Wait until the lab that `process` brings up is ready, showing what it says if wanted.

    Raises StartFailed with what it said if it ends instead.
    """
    with state.output.open(errors="replace") as said:
        while True:
            ended = process.poll() is not None
            words = said.read()
            if show:
                print(words, end="", flush=True)
            if ended:
                hint = "" if show else f"\n{state.output.read_text(errors='replace').strip()}"
                raise StartFailed(f"The lab {state.name!r} did not come up.{hint}")
            if state.ready.exists():
                return
            time.sleep(_POLL_S)
