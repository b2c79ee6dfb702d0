"""Native histograms of a real Prometheus, which has one about its own requests."""

from __future__ import annotations

import math
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from phasegate.adapters.prometheus import PrometheusProvider

from lab.errors import BuildFailed
from tests.lab.adapters.stores import COMMANDS, clock, until

pytestmark = pytest.mark.lab

_OWN = "prometheus_http_request_duration_seconds"


_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: self
    scrape_native_histograms: true
    static_configs: [{{targets: ["{address}"]}}]
"""


@contextmanager
def scraping_itself(folder: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes its own native histograms."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    config = folder / "scrape.yaml"
    config.write_text(_CONFIG.format(address=address))
    command = COMMANDS["prometheus"](folder, config, address)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until("prometheus answers", lambda: _ready(f"http://{address}"))
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with scraping_itself(Path(tmp_path_factory.mktemp("prometheus"))) as url:
            yield url
    except BuildFailed as error:
        pytest.skip(str(error))


async def test_buckets_are_what_promql_says_about_the_same_histogram(url: str) -> None:
    """`histogram_fraction` is exact at a border of the schema, and all our edges are borders."""
    async with httpx.AsyncClient(trust_env=False) as client:
        provider = PrometheusProvider("default", client, url=url)

        def busy() -> bool:
            slow = {"query": 'count by (__name__) ({__name__=~".+"})'}
            httpx.get(f"{url}/api/v1/query", params=slow, trust_env=False)
            asked = httpx.get(
                f"{url}/api/v1/query",
                params={"query": f'histogram_count({_OWN}{{handler="/api/v1/query"}}) >= 20'},
                trust_env=False,
            )
            return bool(asked.json()["data"]["result"])

        until("twenty requests were scraped", busy)
        selector = f'{_OWN}{{handler="/api/v1/query"}}'
        series = await provider.raw(selector, clock() - 10, clock())
        whole = next(s for s in series if s.labels.get("le") == "+Inf")
        at, calls = whole.samples[-1]
        assert calls >= 20
        compared = 0
        for found in series:
            edge = found.labels.get("le", "+Inf")
            if edge == "+Inf":
                continue
            exact = 2 ** (round(4 * math.log2(float(edge))) / 4)
            (said,) = await provider.instant(
                f"histogram_fraction(0, {exact!r}, {selector}) * histogram_count({selector})", at
            )
            assert dict(found.samples)[at] == pytest.approx(said.samples[0][1], abs=1e-6)
            compared += 1
        assert compared >= 20
        (total,) = [s for s in series if s.name == f"{_OWN}_sum"]
        (said,) = await provider.instant(f"histogram_sum({selector})", at)
        assert dict(total.samples)[at] == said.samples[0][1]
