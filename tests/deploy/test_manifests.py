"""Are the Kubernetes manifests what Kubernetes takes, and are all flags in them flags that the commands take?"""

import kubernetes_validate
import pytest
import yaml

from deploy.local import services
from deploy.local.versions import read_versions
from pipelines import convert, options, score, verify
from pipelines.beam import make_beam_options
from tests.deploy.manifests import BASE, DEPLOY, VALUES, constants_of, documents, expand, pod_specs

VERSIONS = read_versions()
OWN_KINDS = [(name, document) for name, document in documents() if "flink.apache.org" not in document["apiVersion"]]
POD_SPECS = [(document, spec) for _, document in documents() for spec in pod_specs(document)]
PARSERS = {"convert": convert.make_parser, "score": score.make_parser, "verify": verify.make_parser}


def named(document):
    return f"{document['kind']}-{document['metadata']['name']}"


@pytest.mark.parametrize("document", [document for _, document in OWN_KINDS], ids=named)
def test_a_resource_is_what_the_api_takes(document):
    kubernetes_validate.validate(document, VERSIONS["KUBERNETES_VERSION"], strict=True)


@pytest.mark.parametrize(("document", "spec"), POD_SPECS, ids=lambda value: named(value) if "kind" in value else "")
def test_pod_templates_are_pods(document, spec):
    # What Flink's operator fills in, so that the rest can be held against the whole schema.
    containers = [{"image": "sixray-flink"} | container for container in spec["containers"]]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec | {"containers": containers}}
    kubernetes_validate.validate(pod, VERSIONS["KUBERNETES_VERSION"], strict=True)


def test_a_misspelt_field_is_found():
    wrong = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automountToken": False}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS["KUBERNETES_VERSION"], strict=True)


@pytest.mark.parametrize(("document", "spec"), POD_SPECS, ids=lambda value: named(value) if "kind" in value else "")
def test_containers_have_limits_and_no_more_rights_than_they_need(document, spec):
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False and rights["capabilities"] == {"drop": ["ALL"]}
        if container["name"] != "flink-main-container":  # the operator derives its resources from `resource`
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert rights["readOnlyRootFilesystem"] is True
            assert {"/scratch", "/tmp"} == {mount["mountPath"] for mount in container["volumeMounts"]}


def test_no_secret_stands_in_the_manifests():
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        assert "kind: Secret" not in path.read_text() and "secretGenerator" not in path.read_text(), path
    users = [container for _, spec in POD_SPECS for container in spec["containers"] if "envFrom" in container]
    assert len(users) == 3
    assert all({"secretRef": {"name": "sixray-store"}} in container["envFrom"] for container in users)


def commands():
    """Yield the words of every command that a manifest or the DAG runs."""
    for name, document in documents():
        if document["kind"] == "CronJob":
            ((container,),) = [spec["containers"] for spec in pod_specs(document)]
            yield f"kubernetes/{name}", expand(container["args"])
    constants = constants_of(DEPLOY / "airflow" / "sixray_nightly.py")
    for name, (_, words) in constants["STEPS"].items():
        yield f"airflow/{name}", [*words, *constants["BEAM"]]


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands()])
def test_flags_are_those_of_the_commands(words):
    command, *rest = words
    own, beam_words = options.split_beam_options(rest)
    PARSERS[command]().parse_args(own)
    assert "--runner=FlinkRunner" in beam_words
    make_beam_options(beam_words)


def test_the_commands_agree_on_how_a_job_reaches_flink():
    beam_words = {
        frozenset(word for word in words[words.index("--") :] if not word.startswith(("--job_name", "--parallelism")))
        for _, words in commands()
    }
    assert len(beam_words) == 1


def test_every_place_that_a_command_names_is_in_the_config_map():
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    (places,) = kustomization["configMapGenerator"]
    names = {line.partition("=")[0] for line in places["literals"]}
    assert VALUES.keys() - {"PARALLELISM"} <= names
    images = {image["name"] for image in kustomization["images"]}
    used = {container["image"] for _, spec in POD_SPECS for container in spec["containers"] if "image" in container}
    assert used <= images


def test_flink_is_the_version_that_the_job_server_is_for():
    (flink,) = [document for _, document in documents() if document["kind"] == "FlinkDeployment"]
    major, minor, _ = VERSIONS["FLINK_VERSION"].split(".")
    assert flink["spec"]["flinkVersion"] == f"v{major}_{minor}"
    assert VERSIONS["BEAM_JOB_SERVER_ARTIFACT"].endswith(f"-{major}.{minor}")


def test_dead_workers_are_forgotten_before_a_job_begins_again():
    (flink,) = [document for _, document in documents() if document["kind"] == "FlinkDeployment"]
    delay, unit = flink["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.delay"].split()
    assert unit == "s"
    for _, words in commands():
        (cached_ms,) = [int(word.partition("=")[2]) for word in words if word.startswith("--environment_cache_millis=")]
        assert cached_ms < 1000 * int(delay)
    assert services.WORKERS_STAY_MS < 1000 * services.RESTART_DELAY_SECONDS
