"""What no healthy Prometheus says. The real one is asked in tests/lab/adapters."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from phasegate.adapters.prometheus import CHUNK, Credentials, Limits, PrometheusProvider
from phasegate.api.errors import ProviderError

SECRET = "canary-secret-in-a-body"
LIMITS = {"deadline", "max_series", "max_bytes"}


def matrix(*series: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "data": {"resultType": "matrix", "result": list(series)},
        **more,
    }


def counter(*points: tuple[float, str], pod: str = "a") -> dict[str, Any]:
    return {"metric": {"__name__": "calls_total", "pod": pod}, "values": [list(p) for p in points]}


def provider(
    answer: Callable[[httpx.Request], httpx.Response], **settings: Any
) -> PrometheusProvider:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=False)
    limits = {name: settings.pop(name) for name in LIMITS & settings.keys()}
    settings |= {"limits": Limits(**limits)}
    return PrometheusProvider("default", client, url="http://prometheus:9090/base/", **settings)


def saying(body: Any, status: int = 200, **settings: Any) -> PrometheusProvider:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return provider(lambda _: httpx.Response(status, content=content), **settings)


async def test_samples_come_with_name_labels_and_scrape_times() -> None:
    series = await saying(matrix(counter((10.5, "1"), (11.5, "3")))).raw("calls_total", 10, 12)
    assert [(s.name, dict(s.labels), s.samples) for s in series] == [
        ("calls_total", {"pod": "a"}, ((10.5, 1.0), (11.5, 3.0)))
    ]


async def test_the_start_is_left_out_and_the_end_is_in() -> None:
    answer = matrix(counter((9.0, "0"), (10.0, "1"), (11.0, "2"), (12.0, "3"), (12.1, "4")))
    series = await saying(answer).raw("calls_total", 10, 12)
    assert [at for at, _ in series[0].samples] == [11.0, 12.0]


async def test_what_is_no_number_is_no_data() -> None:
    answer = matrix(counter((11, "NaN"), (12, "2")), counter((11, "+Inf"), (12, "-Inf"), pod="b"))
    series = await saying(answer).raw("calls_total", 10, 12)
    assert [s.samples for s in series] == [((12.0, 2.0),)]


async def test_nothing_found_is_an_empty_answer_not_an_error() -> None:
    assert await saying(matrix()).raw("calls_total", 10, 12) == []
    assert await saying(matrix()).raw("calls_total", 12, 12) == []


async def test_a_long_gap_is_asked_for_in_pieces_and_comes_back_whole() -> None:
    asked: list[tuple[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        end = float(form["time"][0])
        asked.append((form["query"][0], end))
        return httpx.Response(200, json=matrix(counter((end - 1, "1"), (end, "2"))))

    series = await provider(answer).raw("calls_total", 0, 2 * CHUNK + 10)
    assert [end for _, end in asked] == [CHUNK, 2 * CHUNK, 2 * CHUNK + 10]
    assert asked[0][0] == f"calls_total[{CHUNK * 1000 + 1:.0f}ms]"
    assert len(series) == 1
    assert len(series[0].samples) == 6


async def test_a_query_is_a_form_with_time_timeout_and_limit() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=matrix())

    await provider(answer, deadline=2.0, max_series=7).raw('up{a="b"}', 1700000000, 1700000000.123)
    form = {key: value[0] for key, value in parse_qs(seen[0].content.decode()).items()}
    assert seen[0].method == "POST"
    assert str(seen[0].url) == "http://prometheus:9090/base/api/v1/query"
    assert form == {
        "query": 'up{a="b"}[124ms]',
        "time": "1700000000.123",
        "timeout": "1800ms",
        "limit": "8",
        "partial_response": "false",
    }


async def test_credentials_are_read_for_each_query(tmp_path: Path) -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json=matrix())

    token = tmp_path / "token"
    credentials = Credentials(bearer_token_file=token, headers={"X-Scope-OrgID": "shop"})
    asking = provider(answer, credentials=credentials)
    for content in ("one\n", "two\n"):
        token.write_text(content)
        await asking.raw("up", 1, 2)
    assert [headers["authorization"] for headers in seen] == ["Bearer one", "Bearer two"]
    assert seen[0]["x-scope-orgid"] == "shop"

    password = tmp_path / "password"
    password.write_text("pass\n")
    basic = Credentials(username="me", password_file=password)
    await provider(answer, credentials=basic).raw("up", 1, 2)
    assert seen[2]["authorization"] == f"Basic {base64.b64encode(b'me:pass').decode()}"


async def test_an_instant_answer_may_be_a_vector_or_a_scalar() -> None:
    vector = {"metric": {"pod": "a"}, "value": [5, "0.25"]}
    data = {"resultType": "vector", "result": [vector, {"metric": {}, "value": [5, "NaN"]}]}
    found = await saying({"status": "success", "data": data}).instant("x", 5)
    assert [(dict(s.labels), s.samples) for s in found] == [({"pod": "a"}, ((5.0, 0.25),))]
    scalar = {"resultType": "scalar", "result": [5, "1"]}
    found = await saying({"status": "success", "data": scalar}).instant("scalar(x)", 5)
    assert [s.samples for s in found] == [((5.0, 1.0),)]


HISTOGRAM = {"metric": {}, "histograms": [[1, {"count": "1"}]]}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (matrix(counter((11, "1")), warnings=[SECRET]), 200, "not whole"),
        ({"status": "error", "errorType": "execution", "error": SECRET}, 422, "422 (execution)"),
        ({"status": "error", "errorType": SECRET, "error": SECRET}, 400, "HTTP 400"),
        ({"status": "error", "error": SECRET}, 200, "the query failed"),
        (SECRET.encode(), 503, "HTTP 503"),
        (SECRET.encode(), 302, "redirects"),
        (SECRET.encode(), 200, "not JSON"),
        ([], 200, "not that of a Prometheus API"),
        ({"status": "success"}, 200, "not that of a Prometheus API"),
        (matrix({"metric": {}}), 200, "not that of a Prometheus API"),
        (matrix({"metric": [], "values": []}), 200, "not that of a Prometheus API"),
        (matrix({"metric": {}, "values": [[1, SECRET]]}), 200, "not that of a Prometheus API"),
        (matrix(HISTOGRAM), 200, "not that of a Prometheus API"),
        ({"status": "success", "data": {"resultType": "vector", "result": []}}, 200, "no matrix"),
        (matrix(*[counter((11, "1"), pod=str(n)) for n in range(4)]), 200, "more than 3 series"),
        (matrix(counter((11, "1")), counter((12, "2"))), 200, "names a series twice"),
        (matrix(counter(*[(11.0, "1")] * 500)), 200, "longer than 4096 bytes"),
    ],
)
async def test_anything_less_than_a_whole_answer_is_an_error_in_our_own_words(
    body: Any, status: int, words: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        await saying(body, status, max_series=3, max_bytes=4096).raw("calls_total", 10, 12)
    assert words in str(caught.value)
    assert "provider default" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_one_bad_piece_spoils_the_whole() -> None:
    count = iter(range(10))

    def answer(request: httpx.Request) -> httpx.Response:
        good = next(count) == 0
        return httpx.Response(200 if good else 503, json=matrix(counter((5.0, "1"))))

    with pytest.raises(ProviderError):
        await provider(answer).raw("calls_total", 0, CHUNK + 1)


async def test_a_provider_that_is_not_there_or_silent_is_an_error() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(trust_env=False) as client:
        silent = PrometheusProvider(
            "default", client, url=f"http://127.0.0.1:{port}", limits=Limits(deadline=0.05)
        )
        with pytest.raises(ProviderError, match=r"no answer within 0\.05 s"):
            await silent.raw("up", 1, 2)
    server.close()
    await server.wait_closed()
    async with httpx.AsyncClient(trust_env=False) as client:
        gone = PrometheusProvider("default", client, url=f"http://127.0.0.1:{port}")
        with pytest.raises(ProviderError, match="not reachable"):
            await gone.raw("up", 1, 2)


async def test_a_missing_token_file_is_an_error_of_the_provider(tmp_path: Path) -> None:
    credentials = Credentials(bearer_token_file=tmp_path / "gone")
    with pytest.raises(ProviderError, match="credentials not readable"):
        await saying(matrix(), credentials=credentials).raw("up", 1, 2)


async def test_regular_times_are_asked_in_ranges_and_the_newest_one_by_one() -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        form = {key: value[0] for key, value in parse_qs(request.content.decode()).items()}
        asked.append((request.url.path, form))
        if "start" in form:
            times = range(int(float(form["start"])), int(float(form["end"])) + 1, 5)
            return httpx.Response(200, json=matrix(counter(*((t, "1") for t in times))))
        sample = {"metric": {"__name__": "calls_total", "pod": "a"}, "value": [form["time"], "2"]}
        data = {"resultType": "vector", "result": [sample]}
        return httpx.Response(200, json={"status": "success", "data": data})

    (found,) = await provider(answer, clock=lambda: 1000.0).stepped("x", 900, 950, 5.0)
    assert [at for at, _ in found.samples] == [float(at) for at in range(900, 951, 5)]
    assert [path for path, _ in asked] == ["/base/api/v1/query_range", *["/base/api/v1/query"] * 3]
    assert asked[0][1]["start"] == "900.000"
    assert asked[0][1]["end"] == "935.000"
    assert asked[0][1]["step"] == "5.000"
    assert [form["time"] for _, form in asked[1:]] == ["940.000", "945.000", "950.000"]
    assert {form["nocache"] for _, form in asked[1:]} == {"1"}


async def test_many_times_are_asked_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ends.append(float(parse_qs(request.content.decode())["end"][0]))
        return httpx.Response(200, json=matrix())

    monkeypatch.setattr("phasegate.adapters.prometheus.MAX_POINTS", 10)
    assert await provider(answer, clock=lambda: 1e6).stepped("x", 0, 100, 5.0) == []
    assert ends == [45.0, 95.0, 100.0]
