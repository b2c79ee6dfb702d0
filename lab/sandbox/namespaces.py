"""Make the lab's namespaces, and run commands inside them (util-linux: unshare, nsenter)."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import LabError, NamespacesRefused, NotRunning
from lab.paths import State, short_path

_ALWAYS = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_WITH_USER = ("--user", "--map-root-user")


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise LabError(f"The lab needs the command {name!r}: install the package util-linux.")
    return found


def unshare_command() -> list[str]:
    """The `unshare` command line that works for this user on this kernel.

    A user namespace is used wherever it can be had, for root too, so that there is one way to be
    tested; root falls back to plain namespaces. Raises NamespacesRefused with both ways out.
    """
    unshare = _tool("unshare")
    ways: list[tuple[str, ...]] = [(*_WITH_USER, *_ALWAYS)]
    if os.geteuid() == 0:
        ways.append(_ALWAYS)
    words = ""
    for flags in ways:
        tried = subprocess.run(
            [unshare, *flags, "true"], check=False, capture_output=True, text=True
        )
        if tried.returncode == 0:
            return [unshare, *flags]
        words = words or tried.stderr.strip()
    raise NamespacesRefused(
        f"The kernel refuses the namespaces that a lab lives in ({words}): either allow user "
        "namespaces (as root: sysctl -w user.max_user_namespaces=15000, on Debian also "
        "kernel.unprivileged_userns_clone=1, on Ubuntu also "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, give it SYS_ADMIN), "
        "or run the lab as root on the host."
    )


def connect(state: State) -> socket.socket:
    """A connection to the lab's control socket; NotRunning if nobody listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(state.control) as path:
            sock.connect(path)
    except PermissionError as error:
        sock.close()
        raise NotRunning(f"The lab {state.name!r} belongs to another user.") from error
    except OSError as error:
        sock.close()
        raise NotRunning(
            f"There is no running lab {state.name!r}; start one: lab up --name {state.name}"
        ) from error
    return sock


def supervisor_pid(state: State) -> int:
    """The PID of the running lab's supervisor, as seen from here.

    The kernel says who listens on the socket, so there is no PID file to go stale.
    """
    with connect(state) as sock:
        size = struct.calcsize("3i")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, _, _ = struct.unpack("3i", credentials)
    if pid == 0:
        raise LabError(f"The lab {state.name!r} cannot be entered from inside another lab.")
    return int(pid)


def enter_command(
    state: State, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
) -> list[str]:
    """The command line that runs `command` inside the lab, in `cwd` (default: this one).

    The command dies with the process that runs it. Called inside the lab, it enters nothing.
    """
    pid = supervisor_pid(state)
    settings = [f"{key}={value}" for key, value in env.items()]
    inner = ["env", "-C", str(cwd or Path.cwd()), *settings, *command]
    if _same(pid, "pid"):
        return inner
    flags = ["--target", str(pid), "--net", "--mount", "--pid"]
    if not _same(pid, "user"):
        flags += ["--user", "--preserve-credentials"]
    # nsenter waits for the command as its parent; if it is killed, the command must not live on.
    return [_tool("nsenter"), *flags, "--", _tool("setpriv"), "--pdeathsig", "KILL", *inner]


def is_inside(state: State) -> bool:
    """Whether this process runs in the lab's network."""
    return _same(supervisor_pid(state), "net")


def _same(pid: int, kind: str) -> bool:
    """Whether process `pid` shares our namespace of a kind (`pid`, `user`, …)."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").readlink() == Path(f"/proc/self/ns/{kind}").readlink()
    except OSError:
        return False
