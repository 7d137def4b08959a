"""Prometheus's and Grafana's files, as far as they can be checked without running."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.metrics import Metrics
from tests.deploy.compose import DEPLOY, ROOT, read_yaml, services
from worker.device_memory import memory_of
from worker.metrics import WorkerMetrics

RULES = DEPLOY / "prometheus" / "rules" / "impasto.yml"
SCALER = DEPLOY / "kubernetes" / "components" / "keda" / "scaled-object.yaml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "impasto.json").read_text())
ALERTS = [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool on the PATH")


def promtool(*arguments: str | Path) -> None:
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_prometheus_takes_its_configuration_and_rules(tmp_path: Path) -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    # Some builds of Prometheus, Debian's among them, know no Kubernetes.
    scraping = read_yaml(DEPLOY / "prometheus" / "kubernetes.yml")
    (job,) = scraping["scrape_configs"]
    assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
    (tmp_path / "kubernetes.yml").write_text(json.dumps(scraping))
    promtool("check", "config", tmp_path / "kubernetes.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", ROOT / "tests" / "deploy" / "alerts.yml")


def test_every_alert_is_tested_and_has_its_line_in_the_runbook() -> None:
    tests = (ROOT / "tests" / "deploy" / "alerts.yml").read_text()
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for alert in ALERTS:
        name = alert["alert"]
        assert re.search(rf"alertname: {name}\n.*\n\s+exp_alerts:\n", tests), f"{name} never fires in the tests"
        assert f"#### {name}\n" in runbook
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_every_metric_that_is_asked_for_exists() -> None:
    service, worker = Metrics(), WorkerMetrics()
    worker.watch(memory_of(None))
    families = [family for registry in (service.registry, worker.registry) for family in registry.collect()]
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    known = {family.name + ending for family in families for ending in endings.get(family.type, ("",))}
    text = "".join(path.read_text() for path in (RULES, SCALER)) + json.dumps(DASHBOARD)
    asked = set(re.findall(r"\b(impasto_\w+|process_\w+)\b", text))
    assert len(asked) > 20
    assert asked <= known


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    (source,) = read_yaml(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert host in services()
    assert services()[host]["ports"][0].endswith(f":{port}")
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert all(panel["description"] for panel in panels), "a tired person wants to be told what a panel means"
    (provider,) = read_yaml(DEPLOY / "grafana/provisioning/dashboards/impasto.yml")["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in services()["grafana"]["volumes"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/impasto.json"


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine
