"""Mistakes in `notifiers` are found at the start, with their place; secrets have no place in the file."""

from __future__ import annotations

import pytest
from phasegate.adapters.config import OperatorConfig
from phasegate.adapters.notifiers.settings import is_loopback
from pydantic import ValidationError

WELL = {"kind": "email", "host": "mail", "from": "a@example.com", "to": ["b@example.com"]}


@pytest.mark.parametrize(
    ("notifier", "words"),
    [
        ({"kind": "slack", "url": "https://hooks.slack.com/services/x"}, "urlFile"),
        ({"kind": "pager"}, "does not match any of the expected tags"),
        ({"kind": "webhook", "url": "http://example.com"}, "over https only"),
        ({"kind": "webhook", "url": "https://u:p@example.com"}, "must not hold credentials"),
        ({"kind": "webhook", "url": "https://example.com/?token=x"}, "must not hold credentials"),
        ({"kind": "alertmanager", "url": "http://alertmanager:9093"}, "over https only"),
        ({"kind": "pagerduty", "routingKeyFile": "/k", "atLeast": "Info"}, "pages somebody"),
        ({"kind": "pagerduty", "routingKey": "abc"}, "routingKeyFile"),
        ({**WELL, "tls": "None"}, "a server on this machine"),
        ({**WELL, "username": "u"}, "give both username and passwordFile"),
        ({**WELL, "password": "p"}, "Extra inputs"),
        ({**WELL, "to": []}, "at least 1 item"),
        ({**WELL, "to": ["b@example.com\r\nBcc: c@example.com"]}, "should match pattern"),
        ({**WELL, "from": "Phase <a@example.com>"}, "should match pattern"),
    ],
)
def test_a_mistake_in_a_notifier_is_refused(notifier: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        OperatorConfig.model_validate({"notifiers": {"it": notifier}})
    assert words in str(caught.value)


def test_a_default_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match=r"announce\.default names ops"):
        OperatorConfig.model_validate({"announce": {"default": ["ops"]}})


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("127.0.0.1.example.com", False)],
)
def test_what_stays_on_this_machine(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours
    assert not is_loopback(None)
