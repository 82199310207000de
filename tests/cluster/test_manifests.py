"""Do the overlays build, and is what they build what Kubernetes and Flink's operator take?"""

import re
import subprocess
import zipfile

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.local.fetch import FOLDER, fetch
from deploy.local.versions import read_versions
from tests.deploy.manifests import DEPLOY

OVERLAYS = sorted(path.name for path in (DEPLOY / "kubernetes" / "overlays").iterdir())


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request):
    """What an overlay builds."""
    fetch(["kustomize"])
    words = [FOLDER / "bin" / "kustomize", "build", DEPLOY / "kubernetes" / "overlays" / request.param]
    return list(yaml.safe_load_all(subprocess.run(words, capture_output=True, text=True, check=True).stdout))


@pytest.fixture(scope="module")
def flink_schema():
    """The operator's own schema of a FlinkDeployment, with unknown fields refused."""
    fetch(["operator"])
    (jar,) = (FOLDER / "operator").glob("*.jar")
    with zipfile.ZipFile(jar) as archive:
        (name,) = [name for name in archive.namelist() if re.search(r"flinkdeployments.*-v1\.yml$", name)]
        definition = yaml.safe_load(archive.read(name))
    (version,) = definition["spec"]["versions"]
    return close(version["schema"]["openAPIV3Schema"])


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
    known = [
        one for one in built if "flink.apache.org" not in one["apiVersion"] and "monitoring" not in one["apiVersion"]
    ]
    assert {"CronJob", "Deployment", "NetworkPolicy", "ConfigMap", "Role"} <= {one["kind"] for one in known}
    for one in known:
        assert one["metadata"]["namespace"] == "sixray"
        kubernetes_validate.validate(one, read_versions()["KUBERNETES_VERSION"], strict=True)


def test_the_flink_deployment_is_what_the_operator_takes(built, flink_schema):
    (flink,) = [one for one in built if one["kind"] == "FlinkDeployment"]
    body = {name: value for name, value in flink.items() if name not in ("apiVersion", "kind", "metadata")}
    jsonschema.validate(body, flink_schema)
    for manager in ("jobManager", "taskManager"):
        pod = flink["spec"][manager]["podTemplate"]
        containers = [{"image": "sixray-flink"} | container for container in pod["spec"]["containers"]]
        whole = pod | {"spec": pod["spec"] | {"containers": containers}}
        kubernetes_validate.validate(whole, read_versions()["KUBERNETES_VERSION"], strict=True)
    with pytest.raises(jsonschema.ValidationError, match="flinkVersio"):
        jsonschema.validate({"spec": body["spec"] | {"flinkVersio": "v1_19"}}, flink_schema)


def test_images_have_a_registry_and_a_tag(built):
    text = yaml.safe_dump_all(built)
    images = re.findall(r"^\s*(?:- )?image: (\S+)$", text, re.MULTILINE)
    assert len(images) >= 5 and all(re.fullmatch(r"\S+/sixray-[a-z-]+:\S+", image) for image in images)


def test_a_job_asks_for_as_many_slots_as_there_are(built):
    (flink,) = [one for one in built if one["kind"] == "FlinkDeployment"]
    slots = flink["spec"]["taskManager"]["replicas"] * int(
        flink["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]
    )
    for job in (one for one in built if one["kind"] == "CronJob"):
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        (parallelism,) = [int(one["value"]) for one in container["env"] if one["name"] == "PARALLELISM"]
        assert parallelism == slots
