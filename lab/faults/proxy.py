"""An HTTPS proxy on the host's loopback, in front of a lab's API server."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import yaml
from aiohttp import web

from lab import Lab
from lab.cluster.identity import write_kubeconfig
from lab.cluster.operator import ACCOUNT, NAMESPACE
from lab.errors import LabError
from lab.faults.actions import Action
from lab.faults.certificate import self_signed
from lab.faults.passing import Passing
from lab.faults.requests import Match, Seen
from lab.faults.rules import Rule

_START_S = 20.0
_LAST_WORDS_S = 0.1  # in which closed TLS connections really end


class FaultProxy:
    """Use as a context manager: it listens within the block, on a thread of its own.

    Without rules everything passes. Of several rules that match, the newest is the one that counts.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        """`folder` is for its kubeconfig and its certificate."""
        self._lab, self._folder = lab, folder
        self._seen: list[Seen] = []
        self._rules: tuple[Rule, ...] = ()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self._passing: Passing | None = None

    @property
    def kubeconfig(self) -> Path:
        """Through the proxy, as the operator's ServiceAccount."""
        return self._folder / "through-proxy.yaml"

    @property
    def seen(self) -> list[Seen]:
        """Every request so far, in the order in which they ended (watches: were opened)."""
        with self._lock:
            return list(self._seen)

    @property
    def writes(self) -> list[Seen]:
        """Those of `seen` that were to change something."""
        return [request for request in self.seen if request.write]

    def count(self, match: Match) -> int:
        """How many of `seen` are meant."""
        return sum(1 for request in self.seen if match(request))

    def rule(
        self, match: Match, action: Action, *, skip: int = 0, times: int | None = None
    ) -> Rule:
        """From now on do this to such requests: not to the first `skip`, and to `times` at most.

        Without either it is done to open watches, too, and has been when this returns.
        """
        rule = Rule(match, action, skip, times, self._remove)
        self._change(lambda rules: (rule, *rules))
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        self._change(lambda rules: ())

    def _remove(self, rule: Rule) -> None:
        self._change(lambda rules: tuple(other for other in rules if other is not rule))

    def _change(self, change: Callable[[tuple[Rule, ...]], tuple[Rule, ...]]) -> None:
        with self._lock:
            self._rules = change(self._rules)
        if self._passing is None:
            return
        told = asyncio.run_coroutine_threadsafe(self._passing.rules_changed(), self._loop)
        if (
            threading.current_thread() is not self._thread
        ):  # within a `Call` it would wait for itself
            told.result(_START_S)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_S)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(_cancel_the_rest())
        self._loop.close()

    async def _start(self) -> None:
        admin = yaml.safe_load(self._lab.user("admin").read_text())["clusters"][0]["cluster"]
        authority = base64.b64decode(admin["certificate-authority-data"]).decode()
        tls, certificate = self_signed(self._folder)
        self._passing = Passing(
            f"https://{self._lab.address('apiserver')}",
            ssl.create_default_context(cadata=authority),
            lambda: self._rules,
            self._note,
        )
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._passing.handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        port = self._runner.addresses[0][1]
        token = await asyncio.to_thread(operator_token, self._lab)
        server = f"https://127.0.0.1:{port}"
        write_kubeconfig(self.kubeconfig, "operator", token, certificate, server)

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._passing is not None:
            await self._passing.close()
        await asyncio.sleep(_LAST_WORDS_S)

    def _note(self, request: Seen) -> None:
        with self._lock:
            self._seen.append(request)


async def _cancel_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def operator_token(lab: Lab) -> str:
    """A token of the operator's ServiceAccount, which config/rbac brought. LabError."""
    token = lab.kubectl("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=24h").strip()
    if not token:
        raise LabError("The API server gave no token for the operator's ServiceAccount.")
    return token
