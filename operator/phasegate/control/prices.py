"""The administrator's price table: a ConfigMap, read now and then."""

from __future__ import annotations

import logging
from typing import Final

from phasegate.api.errors import ClusterError, ConfigError, NotFound, Refused
from phasegate.control import kinds
from phasegate.control.ports import Clock, Cluster, Manifest
from phasegate.engine.prices import PriceTable, parse_prices

CACHED_SECONDS: Final = 60.0
"""A new price counts from its date on, so it need not be seen at once."""

_log = logging.getLogger(__name__)


class PriceBook:
    """One ConfigMap's prices. A table that cannot be read does not replace one that could."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, name: str, key: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._where = (namespace, name, key)
        self._read_at = float("-inf")
        self._table: PriceTable | None = None
        self.problem: str | None = None
        """Why the table could not be read the last time, in a sentence."""

    async def table(self) -> PriceTable | None:
        """The prices; None if there have never been any.

        Raises ClusterError if nobody can tell yet, as the API server does not answer.
        """
        now = self._clock.monotonic()
        if now - self._read_at >= CACHED_SECONDS:
            await self._read()
            self._read_at = now
        return self._table

    async def _read(self) -> None:
        namespace, name, key = self._where
        try:
            found = await self._cluster.get(kinds.CONFIG_MAP, namespace, name)
            table, self.problem = parse_prices(_text(found, key), self._named), None
            if table != self._table:  # an equal one is the same to whoever compiled with it
                self._table = table
        except NotFound:
            self.problem = f"{self._named} does not exist"
        except ClusterError as error:
            # What this agent may have to be saved from does not wait for a price.
            if self._table is None and not isinstance(error, Refused):
                raise
            self.problem = f"{self._named} cannot be read: {error}"
        except ConfigError as error:
            self.problem = str(error)
        if self.problem is not None:
            _log.warning("no new prices", extra={"error": self.problem})

    @property
    def _named(self) -> str:
        namespace, name, key = self._where
        return f"the price table {key} in ConfigMap {namespace}/{name}"


def _text(config_map: Manifest, key: str) -> str:
    return str((config_map.get("data") or {}).get(key, ""))
