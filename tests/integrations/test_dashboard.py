"""The dashboard and the alerts ask for names that OpenTelemetry's Prometheus exporter really prints."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import prometheus_client
import promql_parser as promql
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider

from helix_fast import StoreResponseError, connect
from helix_fast.integrations.telemetry import instrument
from tests.support.proxy import FaultProxy

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "helix-fast.json").read_text("utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus" / "helix-fast.rules.yml").read_text("utf-8"))


def rules(group: str) -> list[dict[str, Any]]:
    (found,) = [each["rules"] for each in RULES["groups"] if each["name"] == group]
    return found


def expressions() -> list[str]:
    """All queries about our metrics."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    named = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    series = [re.fullmatch(r"label_values\((\w+), (\w+)\)", name) for name in named]
    return [*shown, *(rule["expr"] for rule in rules("helix-fast")), *(found[1] for found in series if found)]


def without_variables(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$job", ".*")


@pytest.fixture
async def printed(fault_proxy: FaultProxy) -> AsyncIterator[dict[str, set[str]]]:
    """The labels of every series that the exporter prints after some work, a refusal and a lost connection."""
    meters = MeterProvider([PrometheusMetricReader(disable_target_info=True)])
    async with connect(fault_proxy.url, retry_timeout=5) as helix:
        with instrument(helix, meter_provider=meters):
            async with await helix.streams.create_writer("s", agent_id="a") as writer:
                writer.send_text("a")
            await helix.state.create_session("s", agent_type="a")
            with pytest.raises(StoreResponseError):
                await helix.state._requests.command("s", b"NOSUCH")
            fault_proxy.cut_all()
            await helix.state.exists("s")
            found: dict[str, set[str]] = {}
            for family in prometheus_client.REGISTRY.collect():
                for sample in family.samples:
                    if sample.labels.get("otel_scope_name") == "helix_fast":
                        found.setdefault(sample.name, set()).update(sample.labels)
            yield found
    meters.shutdown()


async def test_queries_name_series_and_labels_that_are_printed(printed: dict[str, set[str]]) -> None:
    added = {"job", "instance"}  # by Prometheus
    asked = set()
    for expression in expressions():
        plain = without_variables(expression)
        promql.parse(plain)
        names = set(re.findall(r"\b((?:db_client|helix_fast)_\w+)(?=[{\[ )]|$)", plain)) - {
            "helix_fast_connection_purpose"
        }
        assert names, expression
        for name in names:
            assert name in printed, (name, sorted(printed))
        labels = {
            label for group in re.findall(r"\{([^}]*)\}", plain) for label in re.findall(r"(\w+)\s*[=!]~?", group)
        }
        labels |= {label for group in re.findall(r"\bby \(([^)]*)\)", plain) for label in re.findall(r"\w+", group)}
        there = set().union(*(printed[name] for name in names)) | added
        assert labels <= there, (expression, labels - there)
        asked |= names
    kinds = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in printed}
    assert kinds == {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in asked}, "a metric nobody shows"


def test_panels_fill_the_grid_and_know_their_source() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${source}"
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_alerts_have_all_that_prometheus_and_a_person_need() -> None:
    names = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for group in RULES["groups"]:
        for rule in group["rules"]:
            promql.parse(rule["expr"])
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert rule["annotations"]["summary"]
