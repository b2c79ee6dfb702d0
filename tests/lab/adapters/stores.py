"""Real stores that speak Prometheus' HTTP API, each a process that scrapes a target of the test's."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from lab.parts.build import parts
from lab.parts.victoria import victoria_metrics

JOB = "agents"
_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: {job}
    honor_timestamps: false
    static_configs: [{{targets: ["{target}"], labels: {{namespace: team, pod: p-1}}}}]
"""
_PATIENCE = 30.0


@dataclass
class Target:
    """What is scraped: text that the test may change at any time; None answers 503."""

    address: str
    text: str | None = ""


@dataclass(frozen=True)
class Store:
    """A running store."""

    name: str
    url: str
    target: Target


def clock() -> float:
    return time.time()  # noqa: TID251


def until(what: str, done: object, seconds: float = _PATIENCE) -> None:
    """Wait for a condition, in real time: real processes have no other."""
    assert callable(done)
    end = clock() + seconds
    while not done():
        assert clock() < end, f"{what} did not happen within {seconds:g} s"
        threading.Event().wait(0.05)


@contextmanager
def target() -> Iterator[Target]:
    """An HTTP server for the exposition format."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = scraped.text
            self.send_response(503 if body is None else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scraped = Target(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield scraped
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _free() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def _prometheus(folder: Path, config: Path, address: str) -> list[str]:
    return [
        str(parts().binary("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]


def _victoria(folder: Path, config: Path, address: str) -> list[str]:
    return [
        str(victoria_metrics()),
        f"-promscrape.config={config}",
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr={address}",
        "-loggerLevel=ERROR",
    ]


COMMANDS = {"prometheus": _prometheus, "victoria-metrics": _victoria}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Store]:
    """A store with its target, as its makers' defaults have it but for the scrape interval."""
    with target() as scraped:
        address, config = _free(), folder / "scrape.yaml"
        config.write_text(_CONFIG.format(job=JOB, target=scraped.address))
        command = COMMANDS[name](folder, config, address)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            until(f"{name} answers", lambda: _answers(address))
            yield Store(name, f"http://{address}", scraped)
        finally:
            process.terminate()
            process.wait(timeout=_PATIENCE)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/healthy", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
