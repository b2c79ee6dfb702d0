"""A network namespace per pod, joined to the lab's by a veth pair and /32 routes.

Netlink calls are blocking (about 6 ms per pod) and change the calling thread's namespace, so
they all happen in one thread of their own.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lab.errors import LabError

CLONE_NEWNET = 0x40000000
SCOPE_LINK = 253
OWN_NAMESPACE = "/proc/thread-self/ns/net"

T = TypeVar("T")


class NetworkError(LabError):
    """A pod's network could not be made (FailedCreatePodSandBox)."""


@dataclass(frozen=True)
class PodNetwork:
    """A pod's network: its address, its namespace's open file descriptor, the host-side link."""

    ip: str
    netns: int
    link: str


class AddressPool:
    """Pod addresses of one range, handed out in turn so that a freed one rests for long."""

    def __init__(self, cidr: str) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._used: set[str] = set()
        self.node_ip = str(self._network[1])
        self._next = 2

    def take(self, wanted: str | None = None) -> str:
        """Return a free address, ``wanted`` if that is one. Raises NetworkError if none is."""
        if wanted and wanted not in self._used and self._is_ours(wanted):
            self._used.add(wanted)
            return wanted
        for _ in range(self._network.num_addresses - 3):
            candidate = str(self._network[self._next])
            self._next += 1
            if self._next >= self._network.num_addresses - 1:
                self._next = 2
            if candidate not in self._used:
                self._used.add(candidate)
                return candidate
        raise NetworkError(f"no free pod address in {self._network}")

    def _is_ours(self, ip: str) -> bool:
        return ipaddress.ip_address(ip) in self._network and ip != self.node_ip

    def give_back(self, ip: str) -> None:
        """Make an address free again."""
        self._used.discard(ip)


class PodNetworks:
    """Makes and removes pod networks inside the namespace the process runs in."""

    def __init__(self, cidr: str) -> None:
        self._pool = AddressPool(cidr)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._made = 0

    @property
    def node_ip(self) -> str:
        """The node's own address, first of the pods' range, on the loopback device."""
        return self._pool.node_ip

    async def prepare(self) -> None:
        """Give the node its address and let pods reach each other through it."""
        await self._call(self._prepare)

    async def attach(self, wanted_ip: str | None) -> PodNetwork:
        """Make a pod's network. Raises NetworkError."""
        ip = self._pool.take(wanted_ip)
        self._made += 1
        link = f"pod{self._made}"
        try:
            return await self._call(lambda: PodNetwork(ip, self._attach(ip, link), link))
        except BaseException:
            self._pool.give_back(ip)
            raise

    async def detach(self, network: PodNetwork) -> None:
        """Remove a pod's network; its processes must have ended."""
        await self._call(lambda: self._detach(network))
        self._pool.give_back(network.ip)

    async def _call(self, work: Callable[[], T]) -> T:
        # Shielded: netlink work that has begun must end before its result is given up.
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except NetlinkError as error:
            raise NetworkError(f"netlink: {error}") from error
        except asyncio.CancelledError:
            future.add_done_callback(self._abandon)
            raise

    def _abandon(self, future: asyncio.Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            network = future.result()
            if isinstance(network, PodNetwork):
                self._thread.submit(self._detach, network)

    def _prepare(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        with IPRoute() as host:
            loopback = host.link_lookup(ifname="lo")[0]
            host.link("set", index=loopback, state="up")
            with suppress(NetlinkError):  # there already: a node agent started again
                host.addr("add", index=loopback, address=self.node_ip, prefixlen=32)
            for link in host.get_links():
                if (link.get("ifname") or "").startswith("pod"):
                    with suppress(NetlinkError):
                        host.link("del", index=link["index"])

    def _attach(self, ip: str, link: str) -> int:
        with IPRoute() as host, self._new_namespace() as netns, IPRoute() as pod:
            self._enter_host()
            try:
                self._join(host, pod, netns, ip, link)
            except BaseException:
                os.close(netns)
                raise
            return netns

    def _join(self, host: IPRoute, pod: IPRoute, netns: int, ip: str, link: str) -> None:
        peer = {"ifname": "eth0", "net_ns_fd": netns}
        host.link("add", ifname=link, kind="veth", peer=peer)
        outer = host.link_lookup(ifname=link)[0]
        host.link("set", index=outer, state="up")
        host.route("add", dst=f"{ip}/32", oif=outer, prefsrc=self.node_ip)
        pod.link("set", index=pod.link_lookup(ifname="lo")[0], state="up")
        inner = pod.link_lookup(ifname="eth0")[0]
        pod.addr("add", index=inner, address=ip, prefixlen=32)
        pod.link("set", index=inner, state="up")
        pod.route("add", dst=f"{self.node_ip}/32", oif=inner, scope=SCOPE_LINK)
        pod.route("add", dst="default", gateway=self.node_ip)

    @contextmanager
    def _new_namespace(self) -> Iterator[int]:
        """Be in a new network namespace, whose file descriptor is given, and come back."""
        self._home = os.open(OWN_NAMESPACE, os.O_RDONLY)
        try:
            if self._libc.unshare(CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise NetworkError(f"no new network namespace: {os.strerror(number)}")
            yield os.open(OWN_NAMESPACE, os.O_RDONLY)
        finally:
            self._enter_host()
            os.close(self._home)

    def _enter_host(self) -> None:
        if self._libc.setns(self._home, CLONE_NEWNET) != 0:
            raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")

    def _detach(self, network: PodNetwork) -> None:
        with IPRoute() as host, suppress(NetlinkError, IndexError):
            host.link("del", index=host.link_lookup(ifname=network.link)[0])
        os.close(network.netns)
