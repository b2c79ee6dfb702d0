"""What each channel is sent: one pure function a kind, from a notification to JSON or a mail.

Formats: Slack's incoming webhooks, Adaptive Cards 1.4, PagerDuty Events API v2, Alertmanager API v2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from phasegate.adapters.notifiers.text import cut, harmless
from phasegate.control.outbox import Notification

STANDS: Final = timedelta(hours=24)
"""How long an alert stands at an Alertmanager that never hears that it is over."""
_MOST: Final = 2000
"""Characters of a sentence that are sent on."""
_COLOURS: Final = {"Info": "default", "Warning": "warning", "Critical": "attention"}


def title(note: Notification) -> str:
    """Agent and reason: names and documented words, nothing that a tenant wrote freely."""
    return f"{note.key.namespace}/{note.key.name}: {note.news.reason}"


def sentence(note: Notification) -> str:
    """What happened, harmless."""
    return harmless(cut(note.news.message, _MOST))


def facts(note: Notification) -> dict[str, str]:
    """What it is about."""
    found = {"namespace": note.key.namespace, "agent": note.key.name}
    if note.news.revision is not None:
        found["revision"] = note.news.revision
    return {**found, "severity": note.severity, "at": stamp(note.at)}


def slack(note: Notification) -> dict[str, Any]:
    """An incoming webhook's message: Slack is told to read nothing into it."""
    about = ", ".join(f"{name} {value}" for name, value in facts(note).items())
    words = f"{title(note)}\n{sentence(note)}\n{about}"
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        words = words.replace(char, entity)
    quiet = {"link_names": False, "unfurl_links": False, "unfurl_media": False}
    return {"text": words, "mrkdwn": False, "parse": "none", **quiet}


def teams(note: Notification) -> dict[str, Any]:
    """A message with one card. Runs of text have no markup, other than blocks of text."""

    def line(text: str, **style: Any) -> dict[str, Any]:
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}

    about = ", ".join(f"{name} {value}" for name, value in facts(note).items())
    card = {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.4",
        "body": [
            line(title(note), weight="bolder", color=_COLOURS[note.severity]),
            line(sentence(note)),
            line(about, isSubtle=True),
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def pagerduty(note: Notification, routing_key: str) -> Iterator[dict[str, Any]]:
    """Events: each of what is over is resolved; what is a warning triggers, under its own name.

    Sent again, they change nothing: the key is what stands, or the announcement.
    """
    for name in note.news.ends:
        yield {
            "routing_key": routing_key,
            "event_action": "resolve",
            "dedup_key": _key(note, name),
        }
    if note.news.type == "Warning":
        yield {
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": _key(note, note.news.begins) if note.news.begins else note.id,
            "payload": {
                "summary": cut(f"{title(note)}: {sentence(note)}", 1024),
                "source": f"{note.key.namespace}/{note.key.name}",
                "severity": note.severity.lower(),
                "timestamp": stamp(note.at),
                "component": note.key.name,
                "group": note.key.namespace,
                "class": note.news.reason,
                "custom_details": facts(note),
            },
        }


def alertmanager(note: Notification) -> list[dict[str, Any]]:
    """Alerts, told apart by their labels: what begins stands until what ends it has the same.

    Anything else is one of its own, which Alertmanager resolves by itself (``resolve_timeout``).
    """
    news, at = note.news, stamp(note.at)
    ended = [
        {
            "labels": _standing(note, name),
            "annotations": {"summary": sentence(note)},
            "endsAt": at,
        }
        for name in news.ends
    ]
    if ended and not news.begins and news.type == "Normal":
        return ended
    annotations = {"summary": sentence(note), **facts(note)}
    if news.begins:
        begun = {
            "labels": _standing(note, news.begins),
            "annotations": annotations,
            "startsAt": at,
            "endsAt": stamp(note.at + STANDS),
        }
    else:
        labels = {**_labels(note, news.reason, note.severity), "announcement": note.id}
        begun = {"labels": labels, "annotations": annotations, "startsAt": at}
    return [*ended, begun]


def webhook(note: Notification) -> dict[str, Any]:
    """The announcement for programs: its sentence is as it was said, and is not to be trusted."""
    news = note.news
    return {
        "id": note.id,
        "reason": news.reason,
        "message": news.message,
        **facts(note),
        "begins": news.begins,
        "ends": list(news.ends),
    }


def mail(note: Notification, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """A mail of plain text; its Message-ID is the same when it is sent again."""
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(to)
    message["Subject"] = f"[phasegate] {title(note)}"
    message["Date"] = format_datetime(note.at.astimezone(UTC))
    message["Message-ID"] = f"<{note.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # no answers by robots, RFC 3834
    about = "\n".join(f"{name}: {value}" for name, value in facts(note).items())
    message.set_content(f"{sentence(note)}\n\n{about}\n")
    return message


def stamp(at: datetime) -> str:
    """RFC 3339, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _standing(note: Notification, name: str) -> dict[str, str]:
    reason, _, check = name.partition("/")
    return {**_labels(note, reason, "Warning"), "check": check}


def _labels(note: Notification, reason: str, severity: str) -> dict[str, str]:
    return {
        "alertname": f"Phasegate{reason}",
        "namespace": note.key.namespace,
        "agent": note.key.name,
        "reason": reason,
        "severity": severity.lower(),
    }


def _key(note: Notification, name: str) -> str:
    """What stands, by agent."""
    return hashlib.sha256(f"{note.uid}\n{name}".encode()).hexdigest()[:32]
