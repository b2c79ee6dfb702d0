"""``python -m lab.node``: run the node agent inside the lab's namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import aiohttp
import click

from lab.errors import LabError
from lab.node.agent import NodeAgent, state_directory
from lab.node.client import ApiClient, load_kubeconfig
from lab.node.host import Host
from lab.node.network import PodNetworks
from lab.node.status import BackOff


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
@click.option("--state-dir", type=click.Path(path_type=Path), required=True, help="Logs, volumes.")
@click.option("--node-name", default="lab", show_default=True)
@click.option("--pod-cidr", default="10.244.0.0/16", show_default=True)
@click.option("--back-off", default=1.0, show_default=True, help="First restart delay, seconds.")
@click.option("--back-off-max", default=30.0, show_default=True, help="Longest restart delay.")
def main(
    kubeconfig: Path,
    state_dir: Path,
    node_name: str,
    pod_cidr: str,
    back_off: float,
    back_off_max: float,
) -> None:
    """Run pods as local processes: a kubelet's part, and nothing more."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    times = BackOff(back_off, back_off_max)
    try:
        asyncio.run(run(kubeconfig, state_directory(state_dir), node_name, pod_cidr, times))
    except* LabError as group:
        for error in group.exceptions:
            click.echo(f"lab node: {error}", err=True)
        sys.exit(1)


async def run(
    kubeconfig: Path, directory: Path, node_name: str, pod_cidr: str, back_off: BackOff
) -> None:
    """Run the node agent until SIGTERM or SIGINT; pods end with it.

    Raises LabError for an unusable kubeconfig or kernel.
    """
    endpoint = load_kubeconfig(kubeconfig)
    networks = PodNetworks(pod_cidr)
    # Like a kubelet's, every probe is a connection of its own.
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with ApiClient(endpoint) as api, aiohttp.ClientSession(connector=connector) as probing:
        host = Host(node_name, directory, api, networks, probing, back_off)
        work = asyncio.create_task(NodeAgent(host).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work


if __name__ == "__main__":
    main()
