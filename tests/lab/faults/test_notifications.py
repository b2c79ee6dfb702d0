"""Real operators, real receivers: each transition is told once, whoever dies and whatever hangs."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.faults import FaultProxy, OperatorProcess
from tests.lab.faults.scene import a_namespace
from tests.lab.main_job.cluster import Api, until
from tests.lab.main_job.manifests import DARK, FULL, GOOD_PROMPT, longer
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

TAKE_OVER = 30.0
"""Seconds: the lease, five more, and a machine that is busy."""


class Receiver:
    """An HTTP server of a team: keeps what it has taken, and does not always take it."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.up, self.hangs, self.end = True, False, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.hangs:
                    outer.end.wait()
                    return
                if outer.up:
                    outer.taken.append(body | {"key": self.headers["Idempotency-Key"]})
                self.send_response(200 if outer.up else 503)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def reasons(self) -> list[str]:
        return [one["reason"] for one in self.taken]

    def once_each(self) -> bool:
        return set(Counter(one["key"] for one in self.taken).values()) == {1}


@pytest.fixture
def receivers() -> Iterator[dict[str, Receiver]]:
    made = {name: Receiver() for name in ("well", "late", "hangs")}
    made["late"].up = False
    made["hangs"].hangs = True
    yield made
    for receiver in made.values():
        receiver.close()


def test_what_a_killed_leader_had_not_delivered_the_next_one_delivers_and_nothing_twice(
    quiet_lab: Lab, quiet_admin: Api, tmp_path: Path, receivers: dict[str, Receiver]
) -> None:
    well, late = receivers["well"], receivers["late"]
    config = {
        "notifiers": {n: {"kind": "webhook", "url": r.url} for n, r in receivers.items()},
        "announce": {"default": ["hangs", "late", "well"]},
    }
    with a_namespace(quiet_lab) as namespace, ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(quiet_lab, tmp_path))
        one, two = (
            OperatorProcess(
                quiet_lab,
                tmp_path,
                kubeconfig=proxy.kubeconfig,
                namespaces=[namespace],
                identity=name,
                lease=namespace,
                config=config,
            )
            for name in ("one", "two")
        )
        story = stack.enter_context(Story.begin(quiet_lab, quiet_admin.within(namespace), tmp_path))
        stack.enter_context(one)
        until("it leads", one.leading)
        two.start()
        stack.callback(two.kill)
        story.stable(longer(DARK), FULL, replicas=1)
        story.prompt("Answer in one sentence.")
        story.in_phase("dark")
        until("the start is told", lambda: "RolloutStarted" in well.reasons)
        assert receivers["hangs"].asked > 0
        until("it is marked", lambda: len(marks(story.api)) == len(well.taken))

        one.kill()
        late.up = True
        until("the other leads", two.leading, TAKE_OVER)
        until("the rest is delivered", lambda: sorted(late.reasons) == sorted(well.reasons), 60)
        story.prompt(GOOD_PROMPT)  # back to what is stable: the attempt is over
        ended = {"RolloutCancelled"}
        until("its end is told", lambda: ended <= set(well.reasons) & set(late.reasons))
        assert well.once_each()
        assert late.once_each()
        assert {one["key"] for one in late.taken} == {one["key"] for one in well.taken}
        assert two.metric("phasegate_notifications_total", notifier="well", result="delivered") > 0
        assert all(one["namespace"] == namespace for one in well.taken)


def marks(api: Api) -> list[str]:
    """Events that the notifier `well` has delivered."""
    path = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    found = api.http.get(path).json()["items"]
    annotations = [event["metadata"].get("annotations") or {} for event in found]
    return [
        a["notified.phasegate.dev/well"] for a in annotations if "notified.phasegate.dev/well" in a
    ]
