from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.config import OperatorConfig, load_config
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.errors import ConfigError

FULL = """
providers:
  default: {url: "http://prometheus.monitoring:9090"}
  tenants:
    url: https://mimir.example.com/prometheus
    basic: {username: phasegate, passwordFile: /etc/phasegate/password}
    headers: {X-Scope-OrgID: agents}
    timeout: 3s
    maxSeries: 1000
    maxResponseMiB: 8
routers:
- {controllerName: example.com/gateway, mirror: true, backendHeaders: true}
refresh: {rollout: 5s, resync: 1h, tick: 2s}
prices: {namespace: phasegate-system, name: model-prices}
"""


def load(tmp_path: Path, text: str) -> OperatorConfig:
    file = tmp_path / "phasegate.yaml"
    file.write_text(text)
    return load_config(file)


def test_a_full_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    tenants = config.providers["tenants"]
    assert tenants.timeout == timedelta(seconds=3)
    assert tenants.headers == {"X-Scope-OrgID": "agents"}
    assert config.refresh.resync == timedelta(hours=1)
    features = config.features()["example.com/gateway"]
    assert features.mirror
    assert features.backend_headers
    assert not features.mirror_percent
    assert config.prices is not None
    assert (config.prices.name, config.prices.key) == ("model-prices", "prices.yaml")


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing yet\n") == OperatorConfig()


def test_the_calendar_of_all_agents_may_have_dates_as_yaml_reads_them(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
calendar:
  windows:
  - {name: office, timeZone: Europe/Berlin, days: [Mon, Tue], from: "09:00", to: "17:00"}
  freezes:
  - {name: year-end, timeZone: UTC, reason: stock, from: 2026-12-20, until: 2027-01-03T06:00:00}
  - {name: days, timeZone: UTC, reason: holidays, dates: [2026-12-24]}
""",
    )
    everybody = config.everybody()
    shut = everybody.shut(datetime(2027, 1, 3, 5, 59, tzinfo=UTC))
    assert shut is not None
    assert shut.why == "frozen by year-end of the administrator (stock)"
    assert everybody.opening(datetime(2027, 1, 3, 5, 59, tzinfo=UTC)).at == datetime(
        2027, 1, 4, 8, 0, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "calendar: {windows: [{name: a, timeZone: Europe/Atlantis}]}",
            "calendar: calendar.windows[0].timeZone: Europe/Atlantis is no time zone",
        ),
        (
            "calendar: {windows: [{name: a, timeZone: UTC, from: 17:00}]}",
            'calendar: from: write the time of day in quotes, such as "09:00"',
        ),
        (
            "calendar: {freezes: [{name: a, timeZone: UTC}]}",
            "calendar.freezes.0.reason: Field required",
        ),
        (
            "calendar: {freezes: [{name: a, timeZone: UTC, reason: b, until: 2027-01-03}]}",
            "calendar: calendar.freezes[0].from: with until it must be a date",
        ),
        ("providers: {default: {}}", "providers.default.url: Field required"),
        ("prices: {namespace: a}", "prices.name: Field required"),
        ("providers: {default: {url: 'file:///etc/passwd'}}", "providers.default.url: URL scheme"),
        ("providers: {default: {url: 'http://x', tokn: y}}", "providers.default.tokn: Extra"),
        ("providers: {Not A Name: {url: 'http://x'}}", "providers.Not A Name: "),
        (
            "providers: {d: {url: 'http://x', timeout: 5}}",
            "providers.d.timeout: write it with its unit",
        ),
        ("providers: {d: {url: 'http://x', timeout: 5x}}", "providers.d.timeout: '5x' is not a"),
        ("providers: {d: {url: 'http://x', timeout: 0s}}", "must be longer than 0s"),
        (
            "providers: {d: {url: 'http://x', bearerTokenFile: /a, "
            "basic: {username: u, passwordFile: /b}}}",
            "either bearerTokenFile or basic",
        ),
        ("providers: {d: {url: 'http://x', headers: {'a\\nb': c}}}", "providers.d.headers"),
        (
            "providers: {d: {url: 'http://x', bearerTokenFile: /a}}",
            "credentials are sent over https only",
        ),
        (
            "providers: {d: {url: 'http://x', basic: {username: u, passwordFile: /b}}}",
            "credentials are sent over https only",
        ),
        ("providers: {d: {url: 'https://u:p@x'}}", "url must not hold credentials"),
        (
            "providers: {d: {url: 'https://x', headers: {authorization: Basic eA==}}}",
            "headers must not hold authorization",
        ),
        ("providers: {d: {url: 'http://x', insecureSkipTlsVerify: true}}", "without https"),
        ("routers: [{mirror: true}]", "routers.0.controllerName: Field required"),
        ("[]", "the file: "),
        ("a: [", "is not YAML"),
        ("a: 2026-13-01", "is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
    assert "phasegate.yaml" in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "providers: {a: {}, b: {}}\nfoo: 1\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "gone.yaml")


async def test_providers_are_made_from_it(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    for name, provider in config.providers.items():
        await PrometheusProvider.connect(name, provider).close()
    bad = "providers: {d: {url: 'https://x', caFile: /nowhere.pem}}"
    with pytest.raises(ConfigError, match=r"providers\.d\.caFile"):
        PrometheusProvider.connect("d", load(tmp_path, bad).providers["d"])


@pytest.mark.parametrize(
    "line", ["password: !s3cret", "password: *s3cret", 'password: "s3cret', "password: [s3cret: ]:"]
)
def test_a_file_that_cannot_be_read_is_told_without_its_content(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="is not YAML") as caught:
        load(tmp_path, f"a: b\n{line}\n")
    assert "s3cret" not in str(caught.value)
    assert "in line " in str(caught.value)


async def test_a_kubeconfig_that_cannot_be_read_is_told_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("apiVersion: v1\nusers:\n- user: {token: !s3cret}\n")
    with pytest.raises(ConfigError, match="kubeconfig") as caught:
        await Access(file).load()
    assert "s3cret" not in str(caught.value)
