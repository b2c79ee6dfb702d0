"""A credential is in no log line, no error and no status, whatever the other side does with it."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from phasegate.adapters import logs
from phasegate.adapters.access import Access
from phasegate.adapters.config import load_config
from phasegate.adapters.doorkeeper import Doorkeeper
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.prometheus import Credentials, Limits, PrometheusProvider
from phasegate.api.errors import ClusterError, PhasegateError
from phasegate.control import kinds
from phasegate.control.ports import Manifest

TOKEN = "marked-6f1c9d-token"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def unauthorized(request: web.Request) -> web.Response:
    """As a helpful proxy: it says what it was sent."""
    said = request.headers.get("Authorization", "")
    return web.Response(status=401, text=said, headers={"X-You-Sent": said})


async def forbidden(request: web.Request) -> web.Response:
    return web.json_response({"kind": "Status", "message": "not you"}, status=403)


async def broken(request: web.Request) -> web.Response:
    return web.Response(status=500, text=f"stack: {request.headers.get('Authorization')}")


async def nonsense(request: web.Request) -> web.Response:
    return web.Response(text=f"<html>{request.headers.get('Authorization')}")


async def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


FAULTS = [unauthorized, forbidden, broken, nonsense, cut]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Everything that the process logs, at the lowest level."""
    root, text = logging.getLogger(), io.StringIO()
    before, level = list(root.handlers), root.level
    logs.set_up("json", "DEBUG", text)
    yield text
    root.handlers[:] = before
    root.setLevel(level)


class Places:
    """An address that misbehaves, and another one that must never see the token."""

    def __init__(self) -> None:
        self.fault: Handler = unauthorized
        self.elsewhere: list[str] = []
        self.here = TestServer(self._app(self._misbehave))
        self.there = TestServer(self._app(self._listen))

    def _app(self, handler: Handler) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        return app

    async def _misbehave(self, request: web.Request) -> web.StreamResponse:
        return await self.fault(request)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        self.elsewhere.append(str(dict(request.headers)) + await request.text())
        return web.json_response({})

    async def send_on(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": str(self.there.make_url("/"))})


@pytest.fixture
async def places() -> AsyncIterator[Places]:
    places = Places()
    async with places.here, places.there:
        yield places


@pytest.fixture
async def cluster(places: Places, tmp_path: Path) -> AsyncIterator[KubernetesCluster]:
    config = {
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": str(places.here.make_url("/"))[:-1]}}],
        "users": [{"name": "it", "user": {"token": TOKEN}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    cluster = await KubernetesCluster.connect(Access(file), deadline=2)
    yield cluster
    await cluster.close()


@pytest.fixture
async def provider(places: Places, tmp_path: Path) -> AsyncIterator[PrometheusProvider]:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    client = httpx.AsyncClient(follow_redirects=False, trust_env=False)
    yield PrometheusProvider(
        "default",
        client,
        url=str(places.here.make_url("/")),
        credentials=Credentials(bearer_token_file=file),
        limits=Limits(deadline=2),
    )
    await client.aclose()


async def failure(call: Awaitable[object]) -> ClusterError | None:
    """What a call failed with."""
    try:
        await call
    except ClusterError as error:
        return error
    return None


def words(error: BaseException) -> str:
    """All that can be said of an error, its causes included."""
    return repr(error) + "".join(traceback.format_exception(error))


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_api_servers_token_is_told_to_nobody(
    places: Places, cluster: KubernetesCluster, written: io.StringIO, fault: Handler
) -> None:
    places.fault = fault
    error = await failure(cluster.get(kinds.POD, "a", "b"))
    assert (error is None) == (fault is nonsense)  # which is an empty answer to us
    logging.getLogger("test").error("failed", exc_info=error, extra={"error": str(error)})
    assert error is None or TOKEN not in words(error)
    assert TOKEN not in written.getvalue()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_providers_token_is_told_to_nobody(
    places: Places, provider: PrometheusProvider, written: io.StringIO, fault: Handler
) -> None:
    places.fault = fault
    with pytest.raises(PhasegateError) as caught:
        await provider.raw("up", 0, 10)
    logging.getLogger("test").error("failed", exc_info=caught.value)
    assert TOKEN not in words(caught.value)
    assert TOKEN not in written.getvalue()


async def test_no_token_follows_a_redirect_to_another_address(
    places: Places, cluster: KubernetesCluster, provider: PrometheusProvider
) -> None:
    places.fault = places.send_on
    with pytest.raises(PhasegateError, match="redirects"):
        await provider.raw("up", 0, 10)
    assert places.elsewhere == []
    error = await failure(cluster.get(kinds.POD, "a", "b"))
    assert TOKEN not in str(error)
    assert TOKEN not in "".join(places.elsewhere)


async def test_the_token_of_who_reads_metrics_is_told_to_nobody(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        async def create(self, manifest: Manifest) -> Manifest:
            raise ClusterError("no answer (POST /apis/authentication.k8s.io/v1/tokenreviews)")

    refusal = await Doorkeeper(Away()).refusal(f"Bearer {TOKEN}", "/metrics")
    assert refusal is not None
    assert TOKEN not in refusal.words
    assert "nobody can say who may read metrics" in written.getvalue()
    assert TOKEN not in written.getvalue()


def test_what_is_configured_does_not_show_its_headers(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"providers: {{d: {{url: 'https://x', headers: {{X-Key: {TOKEN}}}}}}}")
    config = load_config(file)
    assert config.providers["d"].headers == {"X-Key": TOKEN}
    assert TOKEN not in repr(config)
    assert TOKEN not in repr(Credentials(headers={"X-Key": TOKEN}))
