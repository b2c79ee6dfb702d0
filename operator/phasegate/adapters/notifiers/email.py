"""Mail, by SMTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from email.message import EmailMessage
from typing import Final

import aiosmtplib

from phasegate.adapters.notifiers.bodies import mail
from phasegate.adapters.notifiers.settings import EmailConfig
from phasegate.api.errors import NotDelivered
from phasegate.control.outbox import Notification

DEADLINE: Final = 20.0
"""Seconds for one mail: servers make strangers wait."""


class EmailChannel:
    """`phasegate.control.outbox.Channel` by SMTP, a connection a mail."""

    def __init__(self, config: EmailConfig, context: ssl.SSLContext, deadline: float = DEADLINE):
        self._config = config
        self._context = context
        self._deadline = deadline

    async def send(self, note: Notification) -> None:
        """Deliver it to the server; raises NotDelivered."""
        message = mail(note, self._config.sender, self._config.to)
        try:
            async with asyncio.timeout(self._deadline):
                await self._send(message)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._deadline:g} s") from None
        except aiosmtplib.SMTPAuthenticationError as error:  # passwords are rotated
            raise NotDelivered(f"the mail server refused the password ({error.code})") from None
        except aiosmtplib.SMTPResponseException as error:
            words = f"the mail server answered with {error.code}"
            raise NotDelivered(words, for_good=error.code >= 500) from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = {one.code for one in error.recipients}
            words = f"the mail server refused all recipients ({', '.join(map(str, sorted(codes)))})"
            raise NotDelivered(words, for_good=min(codes) >= 500) from None
        except aiosmtplib.SMTPException as error:
            words = f"the mail server cannot be reached ({type(error).__name__})"
            raise NotDelivered(words) from None
        except OSError as error:
            raise NotDelivered(error.strerror or type(error).__name__) from None

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _send(self, message: EmailMessage) -> None:
        config = self._config
        password = None
        if config.password_file is not None:
            password = config.password_file.read_text("utf-8").strip()
        await aiosmtplib.send(
            message,
            hostname=config.host,
            port=config.port,
            username=config.username,
            password=password,
            use_tls=config.tls == "Implicit",
            start_tls=config.tls == "StartTLS",
            local_hostname=socket.gethostname(),  # its own default asks the name server
            tls_context=self._context if config.tls != "None" else None,
            timeout=self._deadline,
        )
