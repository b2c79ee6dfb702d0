"""A certificate that is replaced counts from the next connection on."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from phasegate.adapters.telemetry import StatusServer, Telemetry
from phasegate.adapters.tls import server_context
from phasegate.api.errors import ConfigError


def write(folder: Path, serial: int, at: int) -> tuple[Path, Path]:
    """A certificate for localhost with this number, signed by itself; changed at this second."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)  # noqa: TID251 (a certificate is valid now)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "tls.crt", folder / "tls.key"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for file in files:
        os.utime(file, (at, at))
    return files


async def ask(port: int, trusted: Path) -> int:
    """The number of the certificate that the server shows; it must be the trusted one."""
    trust = ssl.create_default_context(cafile=str(trusted))
    async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
        answer = await client.get(f"https://localhost:{port}/healthz")
        assert answer.text == "ok\n"
        shown = answer.extensions["network_stream"].get_extra_info("ssl_object")
        return int(shown.getpeercert()["serialNumber"], 16)


async def test_a_replaced_certificate_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    certificate, key = write(tmp_path, 1, at=1_000)
    server = StatusServer(Telemetry(), healthy=lambda: None, ready=lambda: None)
    port = await server.start("127.0.0.1", 0, server_context(certificate, key))
    try:
        assert await ask(port, certificate) == 1
        write(tmp_path, 2, at=2_000)
        assert await ask(port, certificate) == 2
        good = tmp_path / "good.crt"
        good.write_bytes(certificate.read_bytes())
        certificate.write_text("half a cert")
        assert await ask(port, good) == 2
    finally:
        await server.stop()


def test_a_certificate_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tls-certificate, --tls-key: No such file"):
        server_context(tmp_path / "tls.crt", tmp_path / "tls.key")
