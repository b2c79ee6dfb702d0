"""Certificates, keys, users and their kubeconfigs, made anew for every lab."""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.paths import State
from lab.sandbox.network import MAIN_ADDRESS

API_SERVER = f"https://{MAIN_ADDRESS}:6443"
# First address of the service range: the address of the Service `kubernetes`.
SERVICE_RANGE = "10.96.0.0/16"
_SERVICE_ADDRESS = "10.96.0.1"
_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")

# User -> groups. Nobody but the machinery has rights from the start: tests and demo bind Roles.
_MACHINERY = {
    "admin": ("system:masters",),
    "system:kube-controller-manager": (),
    "lab-node": ("system:masters",),
    "lab-gateway": ("system:masters",),
    "lab-prometheus": ("system:masters",),
}
PEOPLE: Mapping[str, tuple[str, ...]] = {
    "alice": ("agent-owners", "approvers"),
    "bob": ("approvers", "qa"),
    "carol": ("approvers", "legal"),
    "gitops-bot": ("gitops",),
}


@dataclass(frozen=True)
class Identity:
    """Files that the parts are started with."""

    ca: Path
    server_cert: Path
    server_key: Path
    service_account_key: Path
    service_account_public: Path
    tokens: Path


def create(state: State) -> Identity:
    """Make keys, certificates, the token file, and one kubeconfig per user."""
    pki = state.dir / "pki"
    pki.mkdir()
    state.kubeconfig("admin").parent.mkdir()
    identity = Identity(
        ca=pki / "ca.crt",
        server_cert=pki / "apiserver.crt",
        server_key=pki / "apiserver.key",
        service_account_key=pki / "service-account.key",
        service_account_public=pki / "service-account.pub",
        tokens=pki / "tokens.csv",
    )
    _certificates(identity)
    _service_account(identity)
    _users(state, identity)
    return identity


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("phasegate-lab"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
    )


def _certificates(identity: Identity) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _builder("phasegate-lab", ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = ("127.0.0.1", MAIN_ADDRESS, _SERVICE_ADDRESS)
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    server = (
        _builder("kube-apiserver", key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    _write_certificate(identity.ca, ca.sign(ca_key, hashes.SHA256()))
    _write_certificate(identity.server_cert, server.sign(ca_key, hashes.SHA256()))
    _write_key(identity.server_key, key)


def _service_account(identity: Identity) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(identity.service_account_key, key)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    identity.service_account_public.write_bytes(public)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(path, pem.decode())


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)


def _users(state: State, identity: Identity) -> None:
    lines = []
    for user, groups in {**_MACHINERY, **PEOPLE}.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{",".join(groups)}"')
        short = user.removeprefix("system:")
        write_kubeconfig(state.kubeconfig(short), short, token, identity.ca.read_text())
    write_secret(identity.tokens, "\n".join(lines) + "\n")


def write_kubeconfig(path: Path, user: str, token: str, ca: str, server: str = API_SERVER) -> None:
    """A kubeconfig that stands on its own: one cluster, one user, one context, namespace default.

    Args:
        path: the file to write, readable by its owner only.
        user: the name shown as user and context.
        token: the bearer token.
        ca: the certificate authority, PEM.
        server: URL of the API server.
    """
    authority = {"certificate-authority-data": _base64(ca), "server": server}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": authority}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": user, "context": {"cluster": "lab", "user": user}}],
        "current-context": user,
    }
    write_secret(path, yaml.safe_dump(config, sort_keys=False))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
