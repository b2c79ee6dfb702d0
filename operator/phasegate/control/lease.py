"""Leader election on a Lease: at most one operator acts at a time.

Time is this process's own monotonic clock since it last *saw* the Lease change, never the Lease's
timestamps: clocks of two machines may differ. A holder counts its lease from the moment it *asked*
for a renewal and gives up `renew_deadline` later; anybody else counts `duration` from the moment
the renewal was *seen*, which is later. So the old leader has stopped, `duration - renew_deadline`
seconds at least, before a new one starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from phasegate.api.errors import ClusterError, Conflict, Fenced, NotFound
from phasegate.control.ports import Clock, Cluster, Kind, Manifest

LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Which Lease, who we are, and how patient everybody is (seconds)."""

    namespace: str
    name: str
    identity: str
    """Unique per process, not per pod: a restarted container is somebody else."""
    duration: float = 15.0
    """How long others wait after the last sign of life before they take over."""
    renew_deadline: float = 10.0
    """How long a leader that cannot renew goes on acting."""
    renew: float = 5.0
    """Between renewals while all is well."""
    retry: float = 1.0
    """Between attempts to become leader, and after a renewal that failed: how soon a lease that was
    given back is found."""

    def __post_init__(self) -> None:
        if not self.retry <= self.renew < self.renew_deadline < self.duration:
            raise ValueError("a lease needs retry <= renew < renew_deadline < duration")


@dataclass(frozen=True, slots=True)
class _Sight:
    """The Lease as last seen to change, and when (monotonic seconds)."""

    version: str
    holder: str
    duration: float
    transitions: int
    at: float


class _TooLate(Exception):
    """A call outlived the time it was given."""


class Elector:
    """One candidate.

    ``await acquire()``, then act while ``await hold()`` runs. Once that returns, leadership is lost
    and the process must exit: it can no longer tell what others do. On a wanted end, stop acting,
    then ``await release()``.
    """

    def __init__(self, cluster: Cluster, clock: Clock, settings: LeaseSettings) -> None:
        self._cluster = cluster
        self._clock = clock
        self._settings = settings
        self._seen: _Sight | None = None
        self._valid_until = float("-inf")

    @property
    def leading(self) -> bool:
        """True while this process may act."""
        return self._clock.monotonic() < self._valid_until

    def check(self) -> None:
        """Raise Fenced unless this process may act: it is a `phasegate.control.fence.Fence`."""
        if not self.leading:
            raise Fenced("not sent: this process does not lead any more")

    async def acquire(self) -> None:
        """Wait until this process is the leader; failures are logged and tried again, for ever."""
        while not await self._attempt():
            await self._clock.sleep(self._settings.retry)

    async def hold(self) -> None:
        """Renew until leadership is lost, then return."""
        wait = self._settings.renew
        while True:
            left = self._valid_until - self._clock.monotonic()
            if left <= 0:
                return
            await self._clock.sleep(min(wait, left))
            if not self.leading:  # frozen meanwhile, perhaps: it is no longer ours to renew
                return
            try:
                wait = self._settings.renew if await self._renew() else self._settings.retry
            except Conflict as error:
                _log.error("leadership lost", extra={"reason": str(error)})
                self._valid_until = float("-inf")
                return

    async def release(self) -> None:
        """Let the next one in at once instead of after `duration`; best effort, `retry` seconds."""
        if not self.leading or self._seen is None:
            return
        self._valid_until = float("-inf")
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._stamp()}
        try:
            await self._within(self._settings.retry, self._write(self._seen.version, spec))
        except (_TooLate, ClusterError) as error:
            _log.warning("lease not released", extra={"reason": _words(error)})

    async def _attempt(self) -> bool:
        settings, asked = self._settings, self._clock.monotonic()
        try:
            lease = await self._within(settings.renew_deadline, self._look())
            # Our own name there is a claim of ours whose answer was lost.
            if lease.holder not in ("", settings.identity) and not self._expired(lease):
                return False
            spec = self._claim(lease.transitions + 1) | {"acquireTime": self._stamp()}
            left = asked + settings.renew_deadline - self._clock.monotonic()
            taken = await self._within(left, self._write(lease.version, spec))
        except Conflict:
            return False  # another candidate was faster
        except (_TooLate, ClusterError) as error:
            _log.warning("cannot reach the lease", extra={"reason": _words(error)})
            return False
        self._lead(taken, asked)
        return True

    async def _look(self) -> _Sight:
        """The Lease, created free if there is none; `at` tells since when it looks like this."""
        settings = self._settings
        try:
            lease = await self._cluster.get(LEASE, settings.namespace, settings.name)
        except NotFound:
            metadata = {"namespace": settings.namespace, "name": settings.name}
            spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0}
            lease = await self._cluster.create(
                {"apiVersion": LEASE.api_version, "kind": LEASE.kind}
                | {"metadata": metadata, "spec": spec}
            )
        sight = _sight(lease, self._clock.monotonic())
        if self._seen is None or self._seen.version != sight.version:
            self._seen = sight
        return self._seen

    def _expired(self, lease: _Sight) -> bool:
        # A holder that was configured with more patience than we are is given it.
        patience = max(lease.duration, self._settings.duration)
        return self._clock.monotonic() - lease.at >= patience

    async def _renew(self) -> bool:
        """True if renewed, False if that is not known; Conflict when somebody else leads."""
        asked = self._clock.monotonic()
        assert self._seen is not None
        left = self._valid_until - asked
        try:
            renewed = await self._within(left, self._confirm(self._seen))
        except (Conflict, NotFound) as error:
            raise Conflict(str(error)) from error
        except (_TooLate, ClusterError) as error:
            _log.warning("lease not renewed", extra={"reason": _words(error)})
            return False
        self._lead(renewed, asked)
        return True

    async def _confirm(self, seen: _Sight) -> Manifest:
        claim = self._claim(seen.transitions)
        try:
            return await self._write(seen.version, claim)
        except Conflict:  # somebody wrote, perhaps ourselves in a call whose answer was lost
            lease = await self._cluster.get(LEASE, self._settings.namespace, self._settings.name)
            now = _sight(lease, self._clock.monotonic())
            if now.holder != self._settings.identity:
                raise Conflict(f"the lease is held by {now.holder or 'nobody'}") from None
            return await self._write(now.version, claim)

    def _lead(self, lease: Manifest, asked: float) -> None:
        self._seen = _sight(lease, asked)
        self._valid_until = asked + self._settings.renew_deadline

    def _claim(self, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": round(self._settings.duration),
            "leaseTransitions": transitions,
            "renewTime": self._stamp(),
        }

    def _stamp(self) -> str:
        """The wall clock, for people: no decision rests on it."""
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def _write(self, version: str, spec: Mapping[str, Any]) -> Manifest:
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        settings = self._settings
        return await self._cluster.patch(LEASE, settings.namespace, settings.name, patch)

    async def _within(self, seconds: float, call: Awaitable[_T]) -> _T:
        """`call`, or _TooLate after `seconds`: a call must not outlive the lease."""
        task = asyncio.ensure_future(call)
        alarm = asyncio.ensure_future(self._clock.sleep(max(seconds, 0.0)))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _TooLate
            return task.result()
        finally:
            task.cancel()
            alarm.cancel()
            await asyncio.gather(task, alarm, return_exceptions=True)


def _sight(lease: Manifest, at: float) -> _Sight:
    spec = lease.get("spec") or {}
    return _Sight(
        version=lease["metadata"]["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
        at=at,
    )


def _words(error: Exception) -> str:
    return "no answer in time" if isinstance(error, _TooLate) else str(error)
