"""Who may read the operator's metrics: the API server says whose a token is, and what it may.

As the authentication and authorization filter of controller-runtime does it: a TokenReview, then a
SubjectAccessReview for ``get`` on the path. A token goes to the API server and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from phasegate.adapters.kinds import SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW
from phasegate.api.errors import ClusterError, Refused
from phasegate.control.ports import Kind, Manifest
from phasegate.control.rights import Reviewer

ALLOWED_SECONDS: Final = 60.0
"""For how long an approval counts without asking again."""
REFUSED_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 10.0
"""For how long nobody is asked again after there was no answer: scrapes must not wait for one each."""
WITHOUT_ANSWER_SECONDS: Final = 3600.0
"""For how long an approval counts while nobody can be asked: metrics matter most just then."""
REMEMBERED: Final = 64
WAITING: Final = 16
"""Requests that may wait for the API server: whoever sends more tokens is turned away."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status and a sentence."""

    status: int
    words: str


@dataclass(frozen=True, slots=True)
class _Answer:
    refusal: Refusal | None
    at: float


class Doorkeeper:
    """Lets in who may ``get`` a path of the operator's endpoint."""

    def __init__(
        self, reviewer: Reviewer, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._reviewer = reviewer
        self._monotonic = monotonic
        self._known: dict[bytes, _Answer] = {}
        self._silent_until = float("-inf")
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def refusal(self, authorization: str, path: str) -> Refusal | None:
        """Why who sends this ``Authorization`` header may not ``get`` `path`; None: they may."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return Refusal(401, "send a token of the cluster: Authorization: Bearer …")
        # The token itself is not kept.
        known = hashlib.sha256(f"{path}\n{token}".encode()).digest()
        if (answer := self._without_asking(known)) is not None:
            return answer.refusal
        if self._waiting >= WAITING:
            return Refusal(503, "too many tokens are being looked at")
        self._waiting += 1
        try:
            async with self._asking:  # one at a time: the API server has better things to do
                answer = self._without_asking(known) or await self._ask(known, token, path)
        finally:
            self._waiting -= 1
        return answer.refusal

    def _without_asking(self, known: bytes) -> _Answer | None:
        """The answer, if what was said before is good enough, or nobody would say anything now."""
        now, answer = self._monotonic(), self._known.get(known)
        if answer is not None:
            lasts = ALLOWED_SECONDS if answer.refusal is None else REFUSED_SECONDS
            if now - answer.at < lasts:
                return answer
        return self._unanswered(answer) if now < self._silent_until else None

    def _unanswered(self, before: _Answer | None) -> _Answer:
        """What counts while the API server says nothing: an approval, for a while."""
        now = self._monotonic()
        allowed = before is not None and before.refusal is None
        if before is not None and allowed and now - before.at < WITHOUT_ANSWER_SECONDS:
            return before
        return _Answer(Refusal(503, "the API server cannot say who you are"), now)

    async def _ask(self, known: bytes, token: str, path: str) -> _Answer:
        now = self._monotonic()
        try:
            answer = _Answer(await self._review(token, path), now)
        except ClusterError as error:
            _log.warning("nobody can say who may read metrics", extra={"error": str(error)})
            if not isinstance(error, Refused):  # that is about this token and nobody else's
                self._silent_until = self._monotonic() + SILENT_SECONDS
            return self._unanswered(self._known.get(known))
        self._known.pop(known, None)
        self._known[known] = answer
        if len(self._known) > REMEMBERED:
            self._drop_one()
        return answer

    def _drop_one(self) -> None:
        """Forget the oldest refusal: guesses must not make us forget who was let in."""
        refused = (key for key, answer in self._known.items() if answer.refusal is not None)
        del self._known[next(refused, next(iter(self._known)))]

    async def _review(self, token: str, path: str) -> Refusal | None:
        said = await self._create(TOKEN_REVIEW, {"token": token})
        user = said.get("user") or {}
        if said.get("authenticated") is not True or not user.get("username"):
            return Refusal(401, "the API server does not know this token")
        asked = {
            "user": user["username"],
            "groups": user.get("groups") or [],
            "uid": user.get("uid") or "",
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        said = await self._create(SUBJECT_ACCESS_REVIEW, asked)
        if said.get("allowed") is True:
            return None
        return Refusal(403, f"{user['username']} may not get {path}: phasegate-metrics-reader may")

    async def _create(self, kind: Kind, spec: dict[str, Any]) -> Manifest:
        review = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        status: Manifest = (await self._reviewer.create(review)).get("status") or {}
        return status


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
