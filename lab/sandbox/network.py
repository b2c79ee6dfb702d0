"""The lab's main network namespace: loopback, one address of its own, forwarding between pods.

Plain ioctls, so that no `ip` command and no netlink library is needed here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

# The first address of the pods' network (10.244.0.0/16). API server, gateway and Prometheus listen
# on it: Kubernetes refuses loopback addresses in EndpointSlices, but any address may sit on `lo`.
MAIN_ADDRESS = "10.244.0.1"

# <linux/sockios.h> and <linux/if.h>
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_IFF_UP = 0x1


def prepare() -> None:
    """Bring up `lo`, put MAIN_ADDRESS on it as a /32, switch on IPv4 forwarding."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
        # An alias label keeps 127.0.0.1, which setting the plain address would replace.
        fcntl.ioctl(sock, _SIOCSIFADDR, _ifreq("lo:1", MAIN_ADDRESS))
        fcntl.ioctl(sock, _SIOCSIFNETMASK, _ifreq("lo:1", "255.255.255.255"))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _ifreq(name: str, address: str) -> bytes:
    packed = socket.inet_aton(address)
    return struct.pack("16sH2x4s8x", name.encode(), socket.AF_INET, packed)
