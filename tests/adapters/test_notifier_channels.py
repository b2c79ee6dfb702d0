"""Channels against real receivers on this machine: an HTTP server, an SMTP server, and broken ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from phasegate.adapters.config import OperatorConfig
from phasegate.adapters.notifiers.email import EmailChannel
from phasegate.adapters.notifiers.http import HttpChannel, composing
from phasegate.adapters.notifiers.opening import channel
from phasegate.adapters.notifiers.settings import EmailConfig
from phasegate.adapters.tls import server_context
from phasegate.api.errors import ConfigError, NotDelivered
from phasegate.control.outbox import Channel

from tests.adapters.notes import EVIL, note
from tests.adapters.test_tls import write

SECRET = "/services/T0/B0/verysecret"


@dataclass
class Receiver:
    """An HTTP server that answers as a test says."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    endless: bool = False
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.got.append((request.path, dict(request.headers), await request.json()))
        if self.hangs:
            await asyncio.Event().wait()
        if self.endless:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers=self.headers, text="<evil>")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, **how: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**how)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(config: dict[str, Any], deadline: float | None = None) -> AsyncIterator[Channel]:
    read = OperatorConfig.model_validate({"notifiers": {"it": config}}).notifiers["it"]
    made = channel("it", read)
    if deadline is not None:
        made._deadline = deadline  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        await made.close()


def secret(tmp_path: Path, text: str) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{text}\n")
    return str(file)


async def test_slack_and_teams_post_to_the_address_in_the_file(tmp_path: Path) -> None:
    async with receiving() as receiver:
        for kind in ("slack", "teams"):
            config = {"kind": kind, "urlFile": secret(tmp_path, receiver.url + SECRET)}
            async with opened(config) as it:
                await it.send(note())
        (path, _, slack), (_, _, teams) = receiver.got
    assert path == SECRET
    assert "team-a/support" in slack["text"]
    assert teams["type"] == "message"


async def test_a_webhook_gets_a_key_by_which_it_knows_what_it_has(tmp_path: Path) -> None:
    async with receiving() as receiver:
        config = {
            "kind": "webhook",
            "url": f"{receiver.url}/hook",
            "bearerTokenFile": secret(tmp_path, "tok"),
        }
        async with opened(config) as it:
            await it.send(note())
            await it.send(note())
        (path, first, body), (_, second, _) = receiver.got
    assert (path, body["id"]) == ("/hook", note().id)
    assert first["Idempotency-Key"] == second["Idempotency-Key"] == note().id
    assert first["Authorization"] == "Bearer tok"


async def test_a_rotated_secret_counts_from_the_next_message_on(tmp_path: Path) -> None:
    async with receiving(status=202) as receiver:
        file = secret(tmp_path, "old")
        config = {"kind": "pagerduty", "url": receiver.url, "routingKeyFile": file}
        async with opened(config) as it:
            await it.send(note())
            secret(tmp_path, "new")
            await it.send(note())
        assert [body["routing_key"] for _, _, body in receiver.got] == ["old", "new"]


@pytest.mark.parametrize(
    ("status", "for_good"),
    [(500, False), (503, False), (429, False), (401, False), (400, True), (404, True), (302, True)],
)
async def test_what_may_pass_is_told_from_what_will_not(status: int, for_good: bool) -> None:
    async with receiving(status=status, headers={"Location": "/else"}) as receiver:
        async with opened({"kind": "webhook", "url": receiver.url}) as it:
            with pytest.raises(NotDelivered, match=f"answered with {status}") as caught:
                await it.send(note())
        assert caught.value.for_good is for_good
        assert len(receiver.got) == 1


@pytest.mark.parametrize(("said", "after"), [("30", 30.0), ("never", 0.0), ("-1", 0.0), ("", 0.0)])
async def test_a_channel_that_asks_for_time_says_how_much(said: str, after: float) -> None:
    async with (
        receiving(status=429, headers={"Retry-After": said}) as receiver,
        opened({"kind": "webhook", "url": receiver.url}) as it,
    ):
        with pytest.raises(NotDelivered) as caught:
            await it.send(note())
    assert caught.value.after == after


async def test_a_receiver_that_never_answers_is_given_up() -> None:
    async with (
        receiving(hangs=True) as receiver,
        opened({"kind": "webhook", "url": receiver.url}, deadline=0.2) as it,
    ):
        with pytest.raises(NotDelivered, match=r"no answer within 0\.2 s"):
            await it.send(note())


async def test_an_answer_that_never_ends_is_not_read() -> None:
    async with (
        receiving(endless=True) as receiver,
        opened({"kind": "webhook", "url": receiver.url}, deadline=5) as it,
    ):
        await it.send(note())


async def test_nobody_there_and_no_secret_are_told_without_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "phasegate")
    async with receiving() as receiver:
        gone = receiver.url
    url = secret(tmp_path, gone + SECRET)
    for config in (
        {"kind": "slack", "urlFile": url},
        {"kind": "slack", "urlFile": str(tmp_path / "missing")},
        {"kind": "slack", "urlFile": secret(tmp_path / "..", "no address verysecret")},
    ):
        async with opened(config) as it:
            with pytest.raises(NotDelivered) as caught:
                await it.send(note())
        assert not caught.value.for_good or "address" in str(caught.value)
        assert "verysecret" not in f"{caught.value!r} {caught.value.__cause__!r} {it!r}"
    assert "verysecret" not in caplog.text


async def test_a_secret_address_without_https_is_used_on_this_machine_only(tmp_path: Path) -> None:
    config = {"kind": "slack", "urlFile": secret(tmp_path, f"http://chat.example.com{SECRET}")}
    async with opened(config) as it:
        with pytest.raises(NotDelivered, match="https"):
            await it.send(note())


async def test_who_signs_a_channels_certificate_must_be_readable_from_the_start(
    tmp_path: Path,
) -> None:
    config = {"kind": "webhook", "url": "https://example.com", "caFile": str(tmp_path / "no")}
    with pytest.raises(ConfigError, match=r"notifiers\.it\.caFile"):
        await opened(config).__aenter__()


async def test_a_certificate_that_nobody_trusts_gets_no_message(tmp_path: Path) -> None:
    certificate, key = write(tmp_path, serial=1, at=1)
    async with receiving(server_context(certificate, key)) as receiver:
        url = f"https://localhost:{receiver.port}/"
        async with opened({"kind": "webhook", "url": url}) as it:
            with pytest.raises(NotDelivered, match="cannot be reached"):
                await it.send(note())
        assert receiver.got == []
        async with opened({"kind": "webhook", "url": url, "caFile": str(certificate)}) as it:
            await it.send(note())
        assert len(receiver.got) == 1


class Mailbox:
    """What an SMTP server hands over; refuses with `code` if it is set."""

    def __init__(self, code: str = "") -> None:
        self.code = code
        self.got: list[Envelope] = []
        self.logins: list[bytes] = []

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.code.startswith("rcpt "):
            return f"{self.code.removeprefix('rcpt ')} no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        if self.code and not self.code.startswith("rcpt "):
            return f"{self.code} not now"
        self.got.append(envelope)
        return "250 OK"

    def login(self, server: SMTP, session: Any, envelope: Any, way: str, said: Any) -> AuthResult:
        self.logins.append(said.password)
        return AuthResult(success=said.password == b"right", handled=False)


@asynccontextmanager
async def mail_server(box: Mailbox, **how: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    made: Callable[[], SMTP] = lambda: SMTP(box, loop=loop, hostname="mail.test", **how)  # noqa: E731
    server = await loop.create_server(made, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def mail_config(port: int, **more: Any) -> dict[str, Any]:
    return {
        **{"kind": "email", "host": "127.0.0.1", "port": port, "tls": "None"},
        **{"from": "phasegate@example.com", "to": ["ops@example.com", "legal@example.com"]},
        **more,
    }


async def test_a_mail_arrives_for_all_and_only_for_them() -> None:
    box = Mailbox()
    async with mail_server(box) as port, opened(mail_config(port)) as it:
        await it.send(note(EVIL))
    (got,) = box.got
    assert got.rcpt_tos == ["ops@example.com", "legal@example.com"]
    assert isinstance(got.content, bytes)
    assert f"Message-ID: <{note(EVIL).id}@example.com>".encode() in got.content
    assert b"Bcc:" not in got.content.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("code", "for_good"), [("451", False), ("554", True), ("rcpt 450", False), ("rcpt 550", True)]
)
async def test_what_a_mail_server_refuses_for_now_is_tried_again(code: str, for_good: bool) -> None:
    async with mail_server(Mailbox(code)) as port, opened(mail_config(port)) as it:
        with pytest.raises(NotDelivered, match=code.rpartition(" ")[2]) as caught:
            await it.send(note())
    assert caught.value.for_good is for_good


async def test_a_password_comes_from_its_file_and_may_be_corrected(tmp_path: Path) -> None:
    box = Mailbox()
    how = {"authenticator": box.login, "auth_require_tls": False}
    async with mail_server(box, **how) as port:
        config = mail_config(port, username="phasegate", passwordFile=secret(tmp_path, "wrong"))
        async with opened(config) as it:
            with pytest.raises(NotDelivered, match="password") as caught:
                await it.send(note())
            assert not caught.value.for_good
            secret(tmp_path, "right")
            await it.send(note())
    assert (set(box.logins[:-1]), box.logins[-1]) == ({b"wrong"}, b"right")
    assert len(box.got) == 1


async def test_a_mail_server_that_does_not_answer_or_is_not_there_is_given_up() -> None:
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with opened(mail_config(port), deadline=0.2) as it:
        with pytest.raises(NotDelivered, match="no answer"):
            await it.send(note())
    silent.close()
    for writer in held:
        writer.close()
        await writer.wait_closed()
    async with opened(mail_config(port)) as it:
        with pytest.raises(NotDelivered) as caught:
            await it.send(note())
    assert not caught.value.for_good


async def test_a_mail_server_that_only_pretends_to_encrypt_gets_no_mail() -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        config = OperatorConfig.model_validate(
            {"notifiers": {"it": mail_config(port, tls="StartTLS")}}
        )
        read = config.notifiers["it"]
        assert isinstance(read, EmailConfig)
        with pytest.raises(NotDelivered):
            await EmailChannel(read, ssl.create_default_context()).send(note())
    assert box.got == []


async def test_a_bug_in_what_is_composed_is_not_taken_for_the_channels_failure() -> None:
    config = OperatorConfig.model_validate(
        {"notifiers": {"it": {"kind": "webhook", "url": "https://example.com"}}}
    ).notifiers["it"]
    assert not isinstance(config, EmailConfig)
    (post,) = composing(config)(note())
    assert "example.com" not in repr(post)
    async with httpx.AsyncClient() as client:
        it = HttpChannel(lambda note: [1 / 0], client)  # type: ignore[list-item]
        with pytest.raises(ZeroDivisionError):
            await it.send(note())
