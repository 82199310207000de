"""Tests of the alerts: expressions parse, and the metrics, jobs, pods and ports they name exist."""

import re

import promql_parser
import pytest
import yaml
from promql_parser import MatchOp, VectorSelector

from tests.deploy.manifests import DEPLOY, alert_rules, documents

RULES = {rule["alert"]: rule for rule in alert_rules()}
FLINK = next(document for _, document in documents() if document["kind"] == "FlinkDeployment")
POD_TEMPLATES = [FLINK["spec"][name]["podTemplate"]["spec"] for name in ("jobManager", "taskManager")]
CRON_JOBS = {document["metadata"]["name"] for _, document in documents() if document["kind"] == "CronJob"}
RUNBOOK = (DEPLOY / "README.md").read_text()
BY_HAND = set(re.findall(r"create job --from=cronjob/\S+ ([\w-]+)", RUNBOOK))

LABELS = {
    "kube_job_failed": {"namespace", "job_name", "condition"},
    "kube_job_status_active": {"namespace", "job_name"},
    "kube_job_status_start_time": {"namespace", "job_name"},
    "kube_cronjob_created": {"namespace", "cronjob"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
    "kube_pod_status_phase": {"namespace", "pod", "phase"},
    "container_cpu_usage_seconds_total": {"namespace", "pod", "container"},
    "flink_jobmanager_numRunningJobs": {"namespace", "pod"},
    "flink_jobmanager_numRegisteredTaskManagers": {"namespace", "pod"},
    "flink_jobmanager_job_numRestarts": {"namespace", "pod", "job_name"},
}
"""Metrics of the exporters: kube-state-metrics' documentation, the kubelets' cAdvisor, Flink's reporter."""

NAMES = {
    "namespace": {"sixray"},
    "cronjob": CRON_JOBS,
    # Names of CronJobs' jobs end with a number, those of Deployments' pods with two random words.
    "job_name": {f"{name}-29382840" for name in CRON_JOBS} | BY_HAND,
    "pod": {f"{FLINK['metadata']['name']}-taskmanager-5d8f7c9b4-x2x4z"},
    "container": {container["name"] for spec in POD_TEMPLATES for container in spec["containers"]},
    "condition": {"true", "false", "unknown"},
    "phase": {"Pending", "Running", "Succeeded", "Failed", "Unknown"},
}
"""Possible values of a label, from the manifests and the runbook."""


def selectors(expression):
    """Return every metric that an expression reads, with its label matchers."""
    found = []

    def keep(node):
        if isinstance(node, VectorSelector):
            found.append((node.name, node.matchers.matchers))

    promql_parser.walk(promql_parser.parse(expression), keep)
    return found


def takes(matcher, value):
    """Return whether a matcher accepts a label value; Prometheus anchors its patterns."""
    if matcher.op == MatchOp.Equal:
        return value == matcher.value
    assert matcher.op == MatchOp.Re
    return re.fullmatch(matcher.value, value) is not None


def job_matchers():
    return [
        matcher
        for rule in RULES.values()
        for _, matchers in selectors(rule["expr"])
        for matcher in matchers
        if matcher.name == "job_name"
    ]


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_reads_metrics_that_there_are_by_labels_that_they_have(alert):
    found = selectors(RULES[alert]["expr"])
    assert found
    for name, matchers in found:
        assert {matcher.name for matcher in matchers} <= LABELS[name]
        assert "namespace" in {matcher.name for matcher in matchers}, "another cluster's Flink would be read too"


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_names_what_the_manifests_name(alert):
    for _, matchers in selectors(RULES[alert]["expr"]):
        for matcher in matchers:
            assert any(takes(matcher, value) for value in NAMES[matcher.name]), str(matcher)


def test_every_job_of_schedule_and_runbook_is_watched():
    assert len(BY_HAND) == 3 and len(job_matchers()) == 3
    for matcher in job_matchers():
        assert all(takes(matcher, job) for job in NAMES["job_name"])


def test_an_expression_that_is_none_is_found():
    with pytest.raises(ValueError, match="invalid promql query"):
        promql_parser.parse("sum(a{b=}) >")


def test_every_schedule_has_an_alert_that_fires_though_it_never_ended_well():
    read = {alert: [name for name, _ in selectors(rule["expr"])] for alert, rule in RULES.items()}
    watching = [alert for alert, names in read.items() if "kube_cronjob_status_last_successful_time" in names]
    assert len(watching) == len(CRON_JOBS)
    assert all("kube_cronjob_created" in read[alert] for alert in watching)


def test_labels_in_a_summary_are_left_by_the_expression():
    for rule in RULES.values():
        told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert told <= {label for name, _ in selectors(rule["expr"]) for label in LABELS[name]}


def test_flinks_figures_are_scraped_where_they_are_served():
    monitor = yaml.safe_load((DEPLOY / "kubernetes" / "components" / "alerts" / "monitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == {"app": FLINK["metadata"]["name"]}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    served = int(FLINK["spec"]["flinkConfiguration"]["metrics.reporter.prometheus.port"])
    for spec in POD_TEMPLATES:
        (main,) = [container for container in spec["containers"] if container["name"] == "flink-main-container"]
        assert {"name": endpoint["port"], "containerPort": served} in main["ports"]
    (policy,) = [document for _, document in documents() if document["kind"] == "NetworkPolicy"]
    opened = [port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])]
    assert served in opened
