"""Dashboard and alerts select exported metrics, and every exported metric is selected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import pytest
import yaml

from infra.local.plan import ROOT
from infra.metrics import METRICS

DEPLOY: Final = ROOT / "infra" / "deploy"
DASHBOARD: Final = json.loads((DEPLOY / "grafana/dashboards/freshet.json").read_text())
TARGET: Final = {"job", "instance", "process"}
"""Labels that Prometheus gives to each target; `process` is in both of our configurations."""
OTHERS: Final = {
    "up": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
}
"""Metrics of Prometheus itself, and of the client library."""
NAME: Final = re.compile(r"\b((?:freshet|process)_\w+|up)\b(?!\()(?:\{([^}]*)\})?")


class Asked(NamedTuple):
    """One selector of an expression."""

    name: str
    kind: str
    labels: set[str]
    """The labels that the metric has."""
    matched: set[str]
    """The labels that the selector names."""


def asked(expr: str) -> list[Asked]:
    """Every metric that a PromQL expression selects. Errors: KeyError for one that is not exported."""
    # names of labels, and quoted text, are no metrics
    bare = re.sub(r"\b(by|on|group_left|group_right|without)\s*\([^)]*\)", "", expr)
    return [_asked(name, matchers or "") for name, matchers in NAME.findall(bare)]


def _asked(name: str, matchers: str) -> Asked:
    matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))
    if name in OTHERS:
        return Asked(name, OTHERS[name], set(TARGET), matched)
    suffixed = re.fullmatch(r"(\w+)_(bucket|sum|count)", name)
    if suffixed and suffixed[1] in METRICS:
        metric = METRICS[suffixed[1]]
        assert metric.kind == "histogram", name
        le = {"le"} if suffixed[2] == "bucket" else set()
        return Asked(suffixed[1], "histogram", {*metric.labels, *TARGET, *le}, matched)
    metric = METRICS[name]
    assert metric.kind != "histogram", f"{name} is exported as _bucket, _sum and _count"
    return Asked(name, metric.kind, {*metric.labels, *TARGET}, matched)


def grouped(expr: str) -> set[str]:
    """Labels that the expression keeps or joins by."""
    lists = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {label.strip() for found in lists for label in found.split(",")}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """(place in the file, PromQL) of each expression."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


EXPRESSIONS: Final = dict(expressions())


def test_there_is_a_dashboard_and_there_are_alerts() -> None:
    assert len(panels()) > 40
    assert len(rules()) > 10
    assert len(EXPRESSIONS) == sum(len(it["targets"]) for it in panels()) + len(rules())


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_dashboard_and_alerts_select_exported_metrics(where: str) -> None:
    expr = EXPRESSIONS[where]
    found = asked(expr)
    assert found
    for it in found:
        assert it.matched <= it.labels, (it.name, it.matched - it.labels)
    every = set.union(*(it.labels for it in found))
    assert grouped(expr) <= every, grouped(expr) - every
    for opening, closing in ("()", "[]", "{}"):
        assert expr.count(opening) == expr.count(closing)


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_rates_are_of_what_only_rises_and_quantiles_of_buckets(where: str) -> None:
    expr = EXPRESSIONS[where]
    for inner in re.findall(r"\b(?:rate|increase)\((\w+)", expr):
        (it,) = asked(inner)
        assert it.kind != "gauge", inner
    assert len(re.findall(r"\b(?:rate|increase)\(", expr)) == len(
        re.findall(r"\b(?:rate|increase)\(\w+(?:\{[^}]*\})?\[[^\]]+\]\)", expr)
    ), "over a range, and closed at once"
    if "histogram_quantile" in expr:
        assert "_bucket" in expr
        assert "le" in grouped(expr)
    # a name may well hold a partition's number or a worker's: what is not summed up is many lines
    assert re.search(r"\b(sum|max|min|count)\b", expr) or where in {"ProcessDown"}, where


def test_every_exported_metric_is_selected() -> None:
    asked_for = {it.name for expr in EXPRESSIONS.values() for it in asked(expr)}
    assert METRICS.keys() - asked_for == set()


def test_the_reader_of_promql_sees_what_is_wrong() -> None:
    assert [it.name for it in asked('sum by (flow) (freshet_flow_lag{flow="a"})')] == [
        "freshet_flow_lag"
    ]
    with pytest.raises(KeyError):
        asked("rate(freshet_flow_laag[5m])")
    with pytest.raises(AssertionError, match="_bucket, _sum and _count"):
        asked("rate(freshet_read_seconds[5m])")
    (it,) = asked('freshet_flow_lag{item="x"}')
    assert not it.matched <= it.labels
    assert grouped("sum by (a, b) (x) / on (c) group_left y") == {"a", "b", "c"}


def test_every_panel_has_a_title_a_unit_and_the_provisioned_datasource() -> None:
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for of in (panel, *panel["targets"]):
            assert of["datasource"] == {"type": source["type"], "uid": source["uid"]}
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(titles)


def test_panels_fill_the_screen_and_none_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_legends_name_labels_that_the_expression_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
            assert target["legendFormat"]
            assert named <= grouped(target["expr"]), target["legendFormat"]


def test_an_alert_says_how_urgent_it_is_and_names_labels_that_it_has() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        summary = rule["annotations"]["summary"]
        kept = grouped(rule["expr"]) or TARGET
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= kept, rule["alert"]


def compose(service: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return dict(found["services"][service])


def provisioned(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "grafana/provisioning" / path).read_text()))


def mounts(service: str) -> dict[str, str]:
    """Path in the container -> path here, of each mount."""
    mounts = [mount.split(":") for mount in compose(service)["volumes"]]
    return {there: here for here, there, *_ in mounts if here.startswith("./")}


def test_what_grafana_reads_lies_where_compose_mounts_it() -> None:
    found = mounts("grafana")
    assert (ROOT / found["/etc/grafana/provisioning"]).resolve() == DEPLOY / "grafana/provisioning"
    (provider,) = provisioned("dashboards/freshet.yml")["providers"]
    folder = ROOT / found[provider["options"]["path"]]
    home = PurePosixPath(
        compose("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    assert str(home.parent) == provider["options"]["path"]
    assert json.loads((folder / home.name).read_text())["uid"] == DASHBOARD["uid"]
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_every_process_of_ours() -> None:
    found = mounts("prometheus")
    folder = ROOT / found["/etc/prometheus"]
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (dns,) = job["dns_sd_configs"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = {name for name, it in services.items() if it.get("image") == "freshet"}
    assert set(dns["names"]) == ours - {"setup"}
    for name in dns["names"]:
        environment = services[name]["environment"]
        assert environment["FRESHET_METRICS_PORT"] == dns["port"]
        assert environment["FRESHET_METRICS_HOST"] == "0.0.0.0"
    assert {it["target_label"] for it in job["relabel_configs"]} <= TARGET
    source = provisioned("datasources/prometheus.yml")["datasources"][0]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    for name in ("prometheus.yml", "up.yml"):
        loaded = yaml.safe_load((folder / name).read_text())
        assert [(folder / it).exists() for it in loaded["rule_files"]] == [True]
        assert loaded["scrape_configs"][0]["job_name"] == "freshet", "an alert asks for it"


def test_a_prometheus_beside_up_reads_what_up_writes() -> None:
    from infra.local import home
    from infra.local.find import DEFAULT_DIR

    folder = DEPLOY / "prometheus"
    config = yaml.safe_load((folder / "up.yml").read_text())
    (targets,) = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
    assert (folder / targets).resolve() == ROOT / DEFAULT_DIR / home.TARGETS_FILE
