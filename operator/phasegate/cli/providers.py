"""Metrics providers for commands: by their name in the operator's configuration, as for a policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from phasegate.adapters.config import load_config
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.errors import ConfigError


@asynccontextmanager
async def open_provider(name: str, config: Path | None) -> AsyncIterator[PrometheusProvider]:
    """The provider of that name, closed at the end. Raises ConfigError."""
    if config is None:
        raise ConfigError(
            "providers are named in the operator's configuration: give it with --config"
        )
    providers = load_config(config).providers
    if name not in providers:
        names = ", ".join(sorted(providers)) or "none"
        raise ConfigError(f"{config}: has no provider {name!r}; it has: {names}")
    provider = PrometheusProvider.connect(name, providers[name])
    try:
        yield provider
    finally:
        await provider.close()
