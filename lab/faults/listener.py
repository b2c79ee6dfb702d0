"""A server between the operator and a metrics store that writes down what it is asked."""

from __future__ import annotations

import threading
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request: its path, its query (PromQL), its headers in lower case."""

    path: str
    query: str
    headers: dict[str, str]


class Listener:
    """Passes POST requests on to `target` and remembers them; a context manager."""

    def __init__(self, target: str) -> None:
        asked = self._asked = list[Asked]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                query = parse_qs(body.decode()).get("query", [""])[0]
                headers = {name.lower(): text for name, text in self.headers.items()}
                asked.append(Asked(self.path, query, headers))
                url = f"{target}{self.path}"
                # One of the lab's own addresses.
                with urllib.request.urlopen(url, body, timeout=10) as answer:  # noqa: S310
                    said = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: it is all in `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Asked]:
        """Everything so far."""
        return list(self._asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
