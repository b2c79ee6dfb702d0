"""Faults that begin while an agent runs, in the pods that the test chooses."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lab import Lab
from tests.lab.main_job.cluster import Api, until

CONTROL = {"AGENT_FAULT_CONTROL": "1"}
"""The container's environment that lets `set_faults` in."""
_SEND = """
import sys, urllib.request
for url in sys.argv[2:]:
    urllib.request.urlopen(urllib.request.Request(url, sys.argv[1].encode()), timeout=5).read()
"""


def set_faults(lab: Lab, api: Api, *revisions: str, **faults: str) -> None:
    """From now on the pods of these revisions have these faults and no others."""
    send_faults(lab, fault_urls(api, *revisions), **faults)


def fault_urls(api: Api, *revisions: str) -> list[str]:
    """Where the pods of these revisions take their faults."""
    urls = [
        f"http://{pod['status']['podIP']}:8080/fault"
        for revision in revisions
        for pod in api.list("pods", f"phasegate.dev/revision={revision}")
        if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]
    ]
    assert len(urls) >= len(revisions), "a revision has no pod"
    return urls


def send_faults(lab: Lab, urls: Sequence[str], **faults: str) -> None:
    """The same for pods that were found before, while nobody can be asked for them."""
    lab.exec(["python", "-c", _SEND, json.dumps(faults), *urls])


def address_of(api: Api, pod: str) -> str:
    """Where a ready pod listens."""

    def ready() -> str | None:
        status = (api.find("pods", pod) or {}).get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
        return str(status["podIP"]) if conditions.get("Ready") == "True" else None

    return f"http://{until(f'pod {pod} is ready', ready)}:8080"
