"""Every version of some objects, as the API server told them, in the order in which they were written."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from lab import Lab

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds in which what a test waits for must have happened, on a busy machine."""


class History:
    """What watches have told so far. All objects are in one etcd, so their versions have one order."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._versions: list[Json] = []
        self._broken: str | None = None

    @classmethod
    @contextmanager
    def of(cls, lab: Lab, *paths: str) -> Iterator[History]:
        """Follow all objects at these paths of the API, and how they came and went."""
        history = cls()
        with ExitStack() as stack:
            for path in paths:
                stack.enter_context(history._follow(lab, path))
            yield history
            with history._news:
                history._broken = "the watch was ended by the test"

    def __len__(self) -> int:
        with self._news:
            return len(self._versions)

    def all(self) -> list[Json]:
        """All versions of all objects, oldest first; a deletion is a version with `deleted: true`."""
        with self._news:
            return sorted(self._versions, key=_version)

    def of_kind(self, kind: str) -> list[Json]:
        """All versions of all objects of a kind, oldest first."""
        return [version for version in self.all() if version["kind"] == kind]

    def latest(self, kind: str, name: str) -> Json:
        """The newest version of an object; an empty one if there is none."""
        found = [v for v in self.of_kind(kind) if v["metadata"]["name"] == name]
        return found[-1] if found else {}

    def until(self, what: str, check: Callable[[], T], patience: float = PATIENCE) -> T:
        """What `check` says as soon as that is true; it is asked after every new version."""
        deadline = time.monotonic() + patience  # noqa: TID251 - the lab's time is the real one
        while True:
            with self._news:
                seen, broken = len(self._versions), self._broken
            if answer := check():
                return answer
            rest = deadline - time.monotonic()  # noqa: TID251
            if broken is not None or rest <= 0:
                raise AssertionError(
                    f"never seen: {what}; {broken or f'{patience:.0f} s are over'}"
                )
            with self._news:
                if len(self._versions) == seen and self._broken is None:
                    self._news.wait(rest)

    @contextmanager
    def _follow(self, lab: Lab, path: str) -> Iterator[None]:
        command = lab.command(["kubectl", "get", "--raw", f"{path}?watch=true"])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            reader = threading.Thread(target=self._read, args=(process, path), daemon=True)
            reader.start()
            try:
                yield
            finally:
                process.terminate()
                reader.join()

    def _read(self, process: subprocess.Popen[str], path: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                break  # cut off in the middle: the watch was ended
            with self._news:
                if event["type"] == "ERROR":
                    break
                gone = {"deleted": True} if event["type"] == "DELETED" else {}
                self._versions.append(event["object"] | gone)
                self._news.notify_all()
        with self._news:
            self._broken = self._broken or f"the watch of {path} ended"
            self._news.notify_all()


def _version(item: Json) -> int:
    return int(item["metadata"]["resourceVersion"])
