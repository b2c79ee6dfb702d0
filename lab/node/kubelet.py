"""The part of a kubelet's own HTTPS interface that `kubectl logs` needs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.node.host import log_path, now

PORT = 10250
POLL_S = 0.2
CHUNK_BYTES = 64 * 1024

Alive = Callable[[str, str, str], bool]
"""Tells whether a container, by namespace, pod and name, may still write to its log."""


def own_certificate(path: Path) -> ssl.SSLContext:
    """Make a self-signed certificate, kept at `path` for the moment of loading it.

    The API server asks kubelets for TLS, and checks whose it is only where told to.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "phasegate-lab-node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(hours=1))
        .not_valid_after(now() + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    path.unlink()
    return context


def tail_offset(content: bytes, lines: int) -> int:
    """Return where the last so many lines of a text begin."""
    at = len(content.rstrip(b"\n"))
    for _ in range(lines):
        at = content.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1 if lines else len(content)


class Kubelet:
    """Serves containers' logs from the node's state directory."""

    def __init__(self, directory: Path, alive: Alive) -> None:
        self._directory = directory
        self._alive = alive

    async def start(self, address: str) -> web.AppRunner:
        """Listen on the node's address; the runner returned is to be cleaned up."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self.logs)
        application.router.add_route("*", "/{rest:.*}", self.other)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = own_certificate(self._directory / "kubelet.pem")
        await web.TCPSite(runner, address, PORT, ssl_context=context).start()
        return runner

    async def other(self, _: web.Request) -> web.Response:
        """Refuse what this node has not: exec, attach, port-forward."""
        words = "the lab's node serves logs only; to run something in the lab: lab exec -- COMMAND"
        return web.Response(status=501, text=words)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """GET /containerLogs/NAMESPACE/POD/CONTAINER, with `tailLines` and `follow`.

        All starts of a container write one log, so `previous` makes no difference.
        """
        who = (request.match_info[word] for word in ("namespace", "pod", "container"))
        namespace, pod, container = who
        path = log_path(self._directory, namespace, pod, container)
        try:
            content = path.read_bytes()
        except OSError:
            return web.Response(status=404, text="this container has printed nothing yet")
        lines = request.query.get("tailLines")
        offset = tail_offset(content, int(lines)) if lines is not None else 0
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with path.open("rb") as log:
            log.seek(offset)
            following = request.query.get("follow") == "true"
            while following:
                following = self._alive(namespace, pod, container)
                await self._copy(log.read, response)
                await asyncio.sleep(POLL_S if following else 0)
            await self._copy(log.read, response)
        return response

    async def _copy(self, read: Callable[[int], bytes], response: web.StreamResponse) -> None:
        while chunk := read(CHUNK_BYTES):
            await response.write(chunk)
