"""The notifiers of a configuration, ready to be used."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from phasegate.adapters.notifiers.email import EmailChannel
from phasegate.adapters.notifiers.http import HttpChannel
from phasegate.adapters.notifiers.marks import EventMarks
from phasegate.adapters.notifiers.settings import AnnounceConfig, EmailConfig, NotifierConfig
from phasegate.api.errors import ConfigError
from phasegate.control.fence import Fence
from phasegate.control.notifying import Notifiers, Notifying
from phasegate.control.outbox import Channel, Result
from phasegate.control.ports import Clock
from phasegate.rollout.notifiers import Known


def known(notifiers: Mapping[str, NotifierConfig], announce: AnnounceConfig) -> Known:
    """What agents may name, and where those go that name nothing."""
    open_to = {name: frozenset(config.namespaces) for name, config in notifiers.items()}
    return Known(open_to, announce.default)


def channel(name: str, config: NotifierConfig) -> Channel:
    """The channel of one notifier; raises ConfigError if its caFile cannot be read."""
    try:
        cafile = None if config.ca_file is None else str(config.ca_file)
        context = ssl.create_default_context(cafile=cafile)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"notifiers.{name}.caFile: {error}") from error
    if isinstance(config, EmailConfig):
        return EmailChannel(config, context)
    return HttpChannel.connect(config, context)


def open_notifiers(
    notifiers: Mapping[str, NotifierConfig],
    who: Known,
    marks: EventMarks,
    clock: Clock,
    *,
    fence: Fence | None,
    on_result: Callable[[str, Result], None],
) -> Notifiers:
    """All of them, with an outbox each; raises ConfigError."""
    opened = {
        name: Notifying(channel(name, config), config.at_least)
        for name, config in notifiers.items()
    }
    return Notifiers(opened, who, marks, clock, fence=fence, on_result=on_result)
