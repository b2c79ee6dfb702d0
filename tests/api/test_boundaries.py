"""What a custom resource cannot even say: another namespace, an address, a name with a path in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CRDS = [
    yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("phasegate*.yaml"))
]
SOURCES = ROOT / "operator/phasegate"
# Gateways are shared: a listener says itself which namespaces may attach to it.
GATEWAY = "spec.traffic.gatewayAPI.parentRefs[]"


def fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field of a schema with its path."""
    for name, inner in (schema.get("properties") or {}).items():
        here = f"{path}.{name}"
        yield here, inner
        yield from fields(inner, here)
    if isinstance(schema.get("items"), Mapping):
        yield f"{path}[]", schema["items"]
        yield from fields(schema["items"], f"{path}[]")


def of_specs() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for crd in CRDS:
        (version,) = crd["spec"]["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for path, schema in fields(spec, "spec"):
            yield crd["spec"]["names"]["kind"], path, schema


SPECS = list(of_specs())


def test_a_reference_stays_in_its_namespace() -> None:
    named = {path for _, path, _ in SPECS if re.search(r"namespaces?$", path, re.IGNORECASE)}
    assert named == {f"{GATEWAY}.namespace"}


def test_no_field_takes_an_address_or_a_secret() -> None:
    """Where the operator asks is in its own configuration, which only an administrator writes."""
    word = r"(url|uri|address|endpoint|host|server|webhook|proxy|secret|token|password|header)s?$"
    suspects = {path for _, path, _ in SPECS if re.search(word, path, re.IGNORECASE)}
    assert suspects == {
        # What a request must carry to be the agent's: that comes from users and goes nowhere from us.
        "spec.traffic.gatewayAPI.matches[].headers",
        # Where people can read what a decision rests on: kept, and never asked.
        "spec.evidence[].url",
    }


@pytest.mark.parametrize(
    "path", sorted({path for _, path, _ in SPECS if re.search(r"Ref\.name$|prometheus$", path)})
)
def test_a_reference_is_a_name_and_no_path(path: str) -> None:
    """The schema refuses what a URL could be led astray with."""
    for kind, at, schema in SPECS:
        if at == path:
            assert schema["maxLength"] <= 253, (kind, at)
            rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
            assert any("[a-z0-9]([-" in rule for rule in rules), (kind, at)


def test_only_four_adapters_open_connections_to_where_they_are_told() -> None:
    """Credentials go where the administrator's files say; nothing else of the operator calls out."""
    clients = re.compile(
        r"\b(httpx\.(AsyncClient|Client|get|post|request|stream)|aiohttp\.ClientSession|"
        r"aiohttp\.TCPConnector|urllib\.request|http\.client|socket\.create_connection|"
        r"asyncio\.open_connection|ApiClient\(|grpc|(aio)?smtplib|PrometheusConnect)"
    )
    callers = {
        str(file.relative_to(SOURCES))
        for file in SOURCES.rglob("*.py")
        if clients.search(file.read_text())
    }
    channels = {"adapters/notifiers/http.py", "adapters/notifiers/email.py"}
    assert callers == {"adapters/access.py", "adapters/prometheus.py"} | channels


def test_nothing_is_evaluated_or_made_by_a_template_engine() -> None:
    engines = re.compile(
        r"^\s*(?:import|from)\s+(jinja2|mako|pickle|marshal|shelve|subprocess)\b|\b(eval|exec)\(|"
        r"yaml\.(load|unsafe_load|full_load)\(|os\.system",
        re.MULTILINE,
    )
    found = {
        str(file.relative_to(SOURCES))
        for file in SOURCES.rglob("*.py")
        if engines.search(file.read_text())
    }
    assert found == set()
