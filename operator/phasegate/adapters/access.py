"""How to reach the API server, and as whom: in a pod or from a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError

from phasegate.adapters.fencing import fenced
from phasegate.adapters.unreadable import words
from phasegate.api.errors import ClusterError, ConfigError
from phasegate.control.fence import Fence

USER_AGENT: Final = "phasegate"


@dataclass(frozen=True, slots=True)
class Access:
    """Where credentials come from. Both None: what the environment offers.

    The order is the usual one: an explicit file, ``$KUBECONFIG``, the pod's service account,
    ``~/.kube/config``.
    """

    kubeconfig: Path | None = None
    context: str | None = None

    async def load(self, environ: Mapping[str, str] = os.environ) -> Configuration:
        """Read the credentials afresh (tokens and certificates are rotated); ConfigError."""
        configuration = Configuration()
        # Ambient proxies and ~/.netrc have no say in where the operator's token is sent.
        configuration.client_session_kwargs = {"trust_env": False}
        file = self._file(environ)
        try:
            if file is None:
                # Its hook re-reads the mounted token every minute.
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            elif not file.is_file():
                raise ConfigException("there is no such file")
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(file),
                    context=self.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, YAMLError, OSError, ValueError) as error:
            where = "the pod's service account" if file is None else f"kubeconfig {file}"
            said = words(error) if isinstance(error, YAMLError) else error
            raise ConfigError(f"No access to Kubernetes from {where}: {said}") from error
        return configuration

    def _file(self, environ: Mapping[str, str]) -> Path | None:
        if self.kubeconfig is not None:
            return self.kubeconfig
        if environ.get("KUBECONFIG"):
            return Path(environ["KUBECONFIG"])
        if environ.get("KUBERNETES_SERVICE_HOST") and self.context is None:
            return None
        return Path.home() / ".kube" / "config"

    async def client(self, connections: int, fence: Fence | None = None) -> ApiClient:
        """An API client with a budget of `connections` of its own; `fence` stops its writes."""
        configuration = await self.load()
        if fence is not None:
            session = configuration.client_session_kwargs or {}
            configuration.client_session_kwargs = {**session, "request_class": fenced(fence)}
        configuration.connection_pool_maxsize = connections
        return ApiClient(configuration)

    async def sign_in_again(self, client: ApiClient) -> None:
        """Give `client`, which was not let in, credentials read afresh; raises ClusterError."""
        try:
            fresh = await self.load()
        except ConfigError as error:
            raise ClusterError(f"The API server does not know us (401); {error}") from error
        client.configuration.api_key = fresh.api_key
        client.configuration.refresh_api_key_hook = fresh.refresh_api_key_hook


async def identified(client: ApiClient) -> dict[str, str]:
    """The headers that say who asks."""
    headers = {"User-Agent": USER_AGENT}
    token = await client.configuration.get_api_key_with_prefix("BearerToken")
    if token:
        headers["Authorization"] = token
    return headers
