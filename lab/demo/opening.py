"""How the lab comes up, told part by part."""

from __future__ import annotations

import re
import subprocess
import time

from rich.console import Console

from lab.errors import StartFailed
from lab.paths import State

_POLL_S = 0.05
_READY = re.compile(r"lab \S+: (\S+(?: \S+)*?)\s+(?:ready|there) in\s+([\d.]+ s)")
_PARTS = {
    "etcd": "the cluster's memory",
    "kube-apiserver": "Kubernetes' API, RBAC and admission on",
    "kube-controller-manager": "from Deployments to pods and endpoints",
    "node": "runs pods, each in a network of its own",
    "prometheus": "scrapes every agent once a second",
    "envoy-gateway": "from HTTPRoutes to Envoy's configuration",
    "envoy": "the gateway users' requests go through",
    "gateway CRDs": "the Gateway API's kinds",
}


def follow(state: State, process: subprocess.Popen[bytes], console: Console) -> None:
    """Tell each part as it becomes ready; returns when the lab is up.

    Raises StartFailed with what the lab said if it ends instead.
    """
    with state.output.open(errors="replace") as said:
        while True:
            ended = process.poll() is not None
            for line in said.read().splitlines():
                _tell(line, console)
            if ended:
                words = state.output.read_text(errors="replace").strip()
                raise StartFailed(f"The lab {state.name!r} did not come up.\n{words}")
            if state.ready.exists():
                return
            time.sleep(_POLL_S)


def _tell(line: str, console: Console) -> None:
    if found := _READY.match(line):
        part, took = found.groups()
        about = _PARTS.get(part, "")
        console.print(f"  [green]✓[/] {part:<24} [dim]{took:>7}[/]  {about}", soft_wrap=True)
    elif line.startswith("lab parts:"):
        console.print(f"  [dim]{line.removeprefix('lab parts: ')}[/]")
