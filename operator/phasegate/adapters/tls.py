"""TLS for what the operator serves: a certificate in files, read anew when they are replaced."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from phasegate.api.errors import ConfigError

_log = logging.getLogger(__name__)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate; raises ConfigError if it cannot be read now.

    Certificates in a cluster are replaced every few weeks: a changed file counts from the next
    connection on, and one that cannot be read is told and does not replace the last.
    """
    try:
        seen, current = _changed_at(certificate, key), _load(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-certificate, --tls-key: {_words(error)}") from error

    def look(connection: ssl.SSLObject, name: str | None, of: ssl.SSLContext) -> None:
        nonlocal seen, current
        try:
            now = _changed_at(certificate, key)
            if now != seen:
                seen, current = now, _load(certificate, key)
        except (OSError, ssl.SSLError) as error:
            _log.warning("the new certificate cannot be read", extra={"error": _words(error)})
        connection.context = current

    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.minimum_version = ssl.TLSVersion.TLSv1_2
    front.sni_callback = look  # called for each connection, before a certificate is chosen
    return front


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _changed_at(*files: Path) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in files)


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
