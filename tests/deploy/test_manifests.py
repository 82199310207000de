"""Tests of the Kubernetes manifests: valid resources, and flags that the commands accept."""

from datetime import UTC, date, datetime, time, timedelta

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local import services
from deploy.local.versions import read_versions
from pipelines import convert, score, verify
from pipelines.runtime import command_line
from pipelines.runtime.runners import make_beam_options
from tests.deploy.manifests import BASE, DEPLOY, VALUES, constants_of, documents, expand, pod_specs, words_of

VERSIONS = read_versions()
OWN_KINDS = [(name, document) for name, document in documents() if "flink.apache.org" not in document["apiVersion"]]
POD_SPECS = [(document, spec) for _, document in documents() for spec in pod_specs(document)]
DAY_JOB = "sixray-convert-2026-03-01"
PARSERS = {"convert": convert.make_parser, "score": score.make_parser, "verify": verify.make_parser}


def named(document):
    return f"{document['kind']}-{document['metadata']['name']}"


@pytest.mark.parametrize("document", [document for _, document in OWN_KINDS], ids=named)
def test_a_resource_is_what_the_api_takes(document):
    kubernetes_validate.validate(document, VERSIONS["KUBERNETES_VERSION"], strict=True)


@pytest.mark.parametrize(("document", "spec"), POD_SPECS, ids=lambda value: named(value) if "kind" in value else "")
def test_pod_templates_are_pods(document, spec):
    # Fields that Flink's operator fills in, so that the rest can be checked by the whole schema.
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
    """Yield the arguments of every command that a manifest or the DAG runs."""
    for name, document in documents():
        if document["kind"] == "CronJob":
            ((container,),) = [spec["containers"] for spec in pod_specs(document)]
            yield f"kubernetes/{name}", words_of(container, f"{document['metadata']['name']}-2026-03-01")
    constants = constants_of(DEPLOY / "airflow" / "sixray_nightly.py")
    for name, (_, words) in constants["STEPS"].items():
        yield f"airflow/{name}", expand([*words, *constants["BEAM"]])


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands()])
def test_flags_are_those_of_the_commands(words):
    command, *rest = words
    own, beam_words = command_line.split_beam_options(rest)
    PARSERS[command]().parse_args(own)
    assert "--runner=FlinkRunner" in beam_words
    make_beam_options(beam_words)


def test_the_commands_agree_on_how_a_job_reaches_flink():
    beam_words = {
        frozenset(word for word in words[words.index("--") :] if not word.startswith(("--job_name", "--parallelism")))
        for _, words in commands()
    }
    assert len(beam_words) == 1


def converted_by(job):
    """Return input and output of the conversion of that name."""
    ((container,),) = [
        spec["containers"]
        for _, document in documents()
        if document["metadata"]["name"] == "sixray-convert"
        for spec in pod_specs(document)
    ]
    flags = convert.make_parser().parse_args(command_line.split_beam_options(words_of(container, job)[1:])[0])
    return flags.input, flags.output


@settings(max_examples=10, deadline=None)
@given(st.dates(date(2024, 1, 1), date(2100, 1, 1)))
def test_an_evening_converts_the_day_before_to_a_dataset_of_its_own(day):
    # The CronJob controller names its jobs by the minute at which they were due.
    due = datetime.combine(day + timedelta(days=1), time(18), UTC)
    job = f"sixray-convert-{int(due.timestamp()) // 60}"
    assert converted_by(job) == (f"{VALUES['CORPUS']}/{day}", f"{VALUES['DATASETS']}/{day}")


def test_a_job_made_by_hand_converts_the_folder_that_its_name_says():
    for folder in ("2026-03-01", "stock-2025"):
        places = (f"{VALUES['CORPUS']}/{folder}", f"{VALUES['DATASETS']}/{folder}")
        assert converted_by(f"sixray-convert-{folder}") == places


def test_the_dag_and_the_cron_jobs_convert_and_score_the_same_places():
    words = constants_of(DEPLOY / "airflow" / "sixray_nightly.py")["CONVERT"]
    day = [word.replace("{{ ds }}", "2026-03-01") for word in expand(words)]
    assert day[1:] == [f"--{name}={url}" for name, url in zip(("input", "output"), converted_by(DAY_JOB), strict=True)]
    scored = {word for _, words in commands() for word in words if word.startswith("--input=") and words[0] == "score"}
    assert scored == {f"--input={VALUES['DATASETS']}"}


def test_a_job_asks_for_the_slots_that_the_config_map_names():
    for _, words in commands():
        assert f"--parallelism={VALUES['PARALLELISM']}" in words
    assert "--parallelism=$(PARALLELISM)" in constants_of(DEPLOY / "airflow" / "sixray_nightly.py")["BEAM"]


def test_no_pod_sees_a_token_of_kubernetes():
    for document, spec in POD_SPECS:
        assert spec["automountServiceAccountToken"] is False, named(document)
    airflow = DEPLOY / "kubernetes" / "components" / "airflow"
    accounts = {
        document["metadata"]["name"]: document["automountServiceAccountToken"]
        for _, document in [*documents(), *documents(airflow)]
        if document["kind"] == "ServiceAccount"
    }
    account = constants_of(DEPLOY / "airflow" / "sixray_nightly.py")["SERVICE_ACCOUNT"]
    assert accounts == {"sixray-flink": False, account: False}


def test_flink_has_no_role_for_it_asks_kubernetes_nothing():
    (flink,) = [document for _, document in documents() if document["kind"] == "FlinkDeployment"]
    assert flink["spec"]["mode"] == "standalone"
    assert not any(
        name.startswith(("high-availability", "kubernetes.")) for name in flink["spec"]["flinkConfiguration"]
    )
    assert {document["kind"] for _, document in documents()}.isdisjoint({"Role", "RoleBinding", "ClusterRoleBinding"})


def test_every_place_that_a_command_names_is_in_the_config_map():
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    (places,) = kustomization["configMapGenerator"]
    names = {line.partition("=")[0] for line in places["literals"]}
    assert VALUES.keys() <= names
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
