"""What channels are sent: the facts, and nothing of a tenant's words that does anything."""

from __future__ import annotations

import json
import re
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.adapters.notifiers import bodies
from phasegate.adapters.notifiers.text import harmless
from phasegate.control.outbox import Notification

from tests.adapters.notes import EVIL, note

LINK = re.compile(r"[a-z]://|www\.[a-z]|[a-z0-9]\.[a-z]", re.IGNORECASE)


def words_of(body: Any) -> str:
    """Every string that is sent, keys left out."""
    if isinstance(body, dict):
        return "\n".join(words_of(value) for value in body.values())
    if isinstance(body, list):
        return "\n".join(words_of(value) for value in body)
    return str(body)


def shown(kind: str, sent: Notification) -> str:
    """What a person sees of it in that channel."""
    match kind:
        case "slack":
            return str(bodies.slack(sent)["text"])
        case "teams":
            card = bodies.teams(sent)["attachments"][0]["content"]["body"]
            return "\n".join(run["text"] for block in card for run in block["inlines"])
        case "pagerduty":
            return words_of([event["payload"] for event in bodies.pagerduty(sent, "key")])
        case "alertmanager":
            return words_of([alert["annotations"] for alert in bodies.alertmanager(sent)])
    return str(bodies.mail(sent, "phasegate@example.com", ("ops@example.com",)).get_content())


@pytest.mark.parametrize("kind", ["slack", "teams", "pagerduty", "alertmanager", "email"])
def test_nothing_of_a_tenants_words_is_markup_a_mention_or_a_link(kind: str) -> None:
    seen = shown(kind, note(EVIL))
    assert "rolled back" in seen
    assert "<" not in seen
    assert re.search(r"@[\w]", seen) is None
    assert LINK.search(re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", seen)) is None
    assert all(c.isprintable() or c in "\n\u2060" for c in seen)


@pytest.mark.parametrize("kind", ["slack", "teams", "pagerduty", "alertmanager", "email"])
def test_the_facts_are_there(kind: str) -> None:
    seen = shown(kind, note())
    for fact in ("team-a", "support", "0123456789", "8.2% against 1.1%"):
        assert fact in seen


@given(st.text())
def test_harmless_words_have_no_markup_no_mention_no_link_and_one_line(text: str) -> None:
    seen = harmless(text)
    assert not set("<>\r\n\x00\u202e\u2028") & set(seen)
    assert re.search(r"@[\w]", seen) is None
    assert LINK.search(seen) is None


def test_plain_words_stay_as_they_are() -> None:
    assert harmless("errors 8.2% > 5%, p95 1.3 s") == "errors 8.2% › 5%, p95 1.3 s"


def test_slack_is_told_to_read_nothing_into_it() -> None:
    body = bodies.slack(note("a & b"))
    assert (body["mrkdwn"], body["parse"], body["link_names"]) == (False, "none", False)
    assert "a &amp; b" in body["text"]


def test_teams_gets_text_runs_which_have_no_markup_and_no_entities() -> None:
    body = json.dumps(bodies.teams(note(EVIL)))
    assert '"TextBlock"' not in body
    assert "msteams" not in body


def test_a_mail_has_one_subject_no_more_receivers_and_no_html() -> None:
    mail = bodies.mail(note(EVIL), "phasegate@example.com", ("ops@example.com", "b@example.com"))
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert read["Subject"] == "[phasegate] team-a/support: RolledBack"
    assert (read["Bcc"], read["To"]) == (None, "ops@example.com, b@example.com")
    assert read.get_content_type() == "text/plain"
    assert read["Message-ID"] == f"<{note(EVIL).id}@example.com>"


def test_a_warning_pages_and_its_end_resolves_it_by_the_same_key() -> None:
    name = "AlertBreached/error-rate"
    (begun,) = bodies.pagerduty(note("x", reason="AlertBreached", begins=name), "key")
    (over,) = bodies.pagerduty(note("x", type="Normal", reason="AlertOver", ends=(name,)), "key")
    assert (begun["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert begun["dedup_key"] == over["dedup_key"]
    assert begun["routing_key"] == "key"


def test_a_rollback_pages_by_itself_and_resolves_what_ended_with_it() -> None:
    events = list(bodies.pagerduty(note(ends=("EarlyWarning/p95",)), "key"))
    assert [event["event_action"] for event in events] == ["resolve", "trigger"]
    assert events[1]["dedup_key"] == note(ends=("EarlyWarning/p95",)).id
    assert events[1]["payload"]["severity"] == "critical"


def test_a_long_sentence_fits_into_what_pagerduty_takes() -> None:
    (event,) = bodies.pagerduty(note("x" * 5000), "key")
    assert len(event["payload"]["summary"]) <= 1024


def test_an_alert_and_its_end_have_the_same_labels() -> None:
    name = "AlertBreached/error-rate"
    (begun,) = bodies.alertmanager(note("x", reason="AlertBreached", begins=name))
    (over,) = bodies.alertmanager(note("y", type="Normal", reason="AlertOver", ends=(name,)))
    assert begun["labels"] == over["labels"]
    assert begun["labels"]["severity"] == "warning"
    assert begun["endsAt"] > over["endsAt"]


def test_two_transitions_of_one_kind_are_two_alerts() -> None:
    labels = [bodies.alertmanager(note(words))[0]["labels"] for words in ("one", "two", "one")]
    assert labels[0] == labels[2] != labels[1]


def test_a_program_gets_the_sentence_as_it_was_said() -> None:
    body = bodies.webhook(note("a <b> @c", ends=("x/y",)))
    assert (body["message"], body["ends"], body["id"]) == (
        "a <b> @c",
        ["x/y"],
        note("a <b> @c", ends=("x/y",)).id,
    )
