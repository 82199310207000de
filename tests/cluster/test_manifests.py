"""Tests of the overlays: kustomize builds them, and Kubernetes and both operators accept the result."""

import os
import re
import subprocess
import textwrap
import zipfile

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.local.fetch import FOLDER, fetch
from deploy.local.versions import read_versions
from tests.deploy.manifests import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ["cpu", "gpu"]


def build(folder):
    """Return the resources that kustomize makes of a folder."""
    fetch(["kustomize"])
    words = [FOLDER / "bin" / "kustomize", "build", folder]
    return list(yaml.safe_load_all(subprocess.run(words, capture_output=True, text=True, check=True).stdout))


def build_site(folder, on, components=()):
    """Return what the runbook's own overlay builds on another one."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    folder.mkdir(exist_ok=True)
    overlay = yaml.safe_load(textwrap.dedent(block))
    # kustomize takes no absolute path.
    overlay["resources"] = [os.path.relpath(KUBERNETES / "overlays" / on, folder)]
    overlay["components"] = [os.path.relpath(KUBERNETES / "components" / name, folder) for name in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return build(folder)


@pytest.fixture(scope="module", params=[*OVERLAYS, "site", "site with airflow"])
def built(request, tmp_path_factory):
    """What an overlay builds."""
    if request.param in OVERLAYS:
        return build(KUBERNETES / "overlays" / request.param)
    components = ["airflow"] if "airflow" in request.param else []
    return build_site(tmp_path_factory.mktemp("site"), "cpu", components)


@pytest.fixture(scope="module")
def flink_schema():
    """The operator's own schema of a FlinkDeployment, with unknown fields refused."""
    fetch(["operator"])
    (jar,) = (FOLDER / "operator").glob("*.jar")
    return schema_in(jar, r"flinkdeployments.*-v1\.yml$")


@pytest.fixture(scope="module")
def prometheus_schemas():
    """The operator's own schemas of what the alerts are made of, by kind, with unknown fields refused."""
    fetch(["prometheus-operator"])
    (module,) = (FOLDER / "prometheus-operator").rglob("*.zip")
    kinds = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}
    return {
        kind: schema_in(module, rf"/example/prometheus-operator-crd/\S+_{plural}\.yaml$")
        for kind, plural in kinds.items()
    }


def schema_in(archive, pattern):
    """Return a validator by the one definition of a resource in an archive whose name is as the pattern says.

    The schema itself is not checked: Go's patterns are not all Python's.
    """
    with zipfile.ZipFile(archive) as files:
        (name,) = [name for name in files.namelist() if re.search(pattern, name)]
        definition = yaml.safe_load(files.read(name))
    (version,) = definition["spec"]["versions"]
    return jsonschema.Draft202012Validator(close(version["schema"]["openAPIV3Schema"]))


def close(schema):
    """Return a schema that takes no field that it does not name; Kubernetes' server would drop it in silence."""
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(value) for name, value in schema.items() if name != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: close(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return closed


def test_every_resource_is_what_the_api_takes(built):
    known = [one for one in built if not one["apiVersion"].startswith(("flink.apache.org", "monitoring.coreos.com"))]
    assert {"Deployment", "NetworkPolicy", "ConfigMap", "ServiceAccount"} <= {one["kind"] for one in known}
    assert all(one["metadata"]["namespace"] == "sixray" for one in built)
    for one in known:
        kubernetes_validate.validate(one, read_versions()["KUBERNETES_VERSION"], strict=True)


def test_the_flink_deployment_is_what_the_operator_takes(built, flink_schema):
    (flink,) = [one for one in built if one["kind"] == "FlinkDeployment"]
    body = {name: value for name, value in flink.items() if name not in ("apiVersion", "kind", "metadata")}
    flink_schema.validate(body)
    for manager in ("jobManager", "taskManager"):
        pod = flink["spec"][manager]["podTemplate"]
        containers = [{"image": "sixray-flink"} | container for container in pod["spec"]["containers"]]
        whole = pod | {"spec": pod["spec"] | {"containers": containers}}
        kubernetes_validate.validate(whole, read_versions()["KUBERNETES_VERSION"], strict=True)
    with pytest.raises(jsonschema.ValidationError, match="flinkVersio"):
        flink_schema.validate({"spec": body["spec"] | {"flinkVersio": "v1_19"}})


def test_alerts_and_monitor_are_what_their_operator_takes(built, prometheus_schemas):
    found = {one["kind"]: one for one in built if one["apiVersion"].startswith("monitoring.coreos.com/")}
    assert found.keys() == prometheus_schemas.keys()
    for kind, one in found.items():
        prometheus_schemas[kind].validate(one)
        with pytest.raises(jsonschema.ValidationError, match="misspelt"):
            prometheus_schemas[kind].validate(one | {"spec": one["spec"] | {"misspelt": 1}})


def test_images_have_a_registry_and_a_tag(built):
    text = yaml.safe_dump_all(built)
    images = re.findall(r"^\s*(?:- )?image: (\S+)$", text, re.MULTILINE)
    assert len(images) >= 3 and all(re.fullmatch(r"\S+/sixray-[a-z-]+:\S+", image) for image in images)


def test_a_job_asks_for_as_many_slots_as_there_are(built):
    (flink,) = [one for one in built if one["kind"] == "FlinkDeployment"]
    slots = flink["spec"]["taskManager"]["replicas"] * int(
        flink["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]
    )
    assert int(places_of(built)["PARALLELISM"]) == slots


def places_of(resources):
    (places,) = [one["data"] for one in resources if one["kind"] == "ConfigMap"]
    return places


def test_an_overlay_of_ones_own_leaves_no_place_and_no_image_of_the_base(tmp_path):
    resources = build_site(tmp_path, "cpu")
    assert "registry.example.com" not in yaml.safe_dump_all(resources)
    assert places_of(resources)["CORPUS"] == "s3://BUCKET/corpus"
    assert places_of(resources).keys() == places_of(build(KUBERNETES / "overlays" / "cpu")).keys()


def test_where_airflow_runs_the_night_no_cron_job_does(tmp_path):
    kinds = [one["kind"] for one in build_site(tmp_path / "without", "cpu")]
    assert kinds.count("CronJob") == 2
    resources = build_site(tmp_path / "with", "cpu", ["airflow"])
    assert sorted({*kinds} - {one["kind"] for one in resources}) == ["CronJob"]
    (binding,) = [one for one in resources if one["metadata"]["name"] == "sixray-airflow" and "roleRef" in one]
    (role,) = [one for one in resources if one["metadata"]["name"] == "sixray-airflow" and "rules" in one]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {"pods", "pods/log"} <= {name for rule in role["rules"] for name in rule["resources"]}
