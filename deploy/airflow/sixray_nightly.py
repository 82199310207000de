"""The nightly job as an Airflow DAG: convert new scans, verify, score; each step is a pod that drives a Flink job.

It takes the place of the CronJobs: the overlay has the component `airflow`. Where the data lie, and how many slots
Flink has, stands in the overlay's `sixray-places` alone. A day's dataset is a folder of the archive; `ds` is the day
before the evening of the run. A step that fails is tried again: it resumes, and does nothing twice.
"""

from datetime import datetime, timedelta
from itertools import pairwise

from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

REGISTRY = "registry.example.com"
TAG = "0.1.0"
DATASET = "$(DATASETS)/{{ ds }}"
SERVICE_ACCOUNT = "sixray-step"
"""Of the component `airflow`: without a token of Kubernetes."""

BEAM = [
    "--",
    "--runner=FlinkRunner",
    "--job_endpoint=sixray-job-server:8099",
    "--artifact_endpoint=sixray-job-server:8098",
    "--job_server_timeout=60",
    "--environment_type=EXTERNAL",
    "--environment_config=localhost:50000",
    "--environment_cache_millis=5000",
    "--experiments=disable_logging_submission_environment",
    "--parallelism=$(PARALLELISM)",
]
CONVERT = ["convert", "--input=$(CORPUS)/{{ ds }}", f"--output={DATASET}"]
VERIFY = ["verify", DATASET, f"--report={DATASET}-damages.json"]
SCORE = [
    "score",
    "--model=$(MODEL)",
    "--input=$(DATASETS)",
    "--output=$(PREDICTIONS)",
    "--log-format=json",
]
"""An archive, so that the next night makes up for a missed one."""

STEPS = {"convert": ("convert", CONVERT), "verify": ("convert", VERIFY), "score": ("score-cpu", SCORE)}
"""Image and arguments of each step, in order; Kubernetes replaces `$(NAME)`, Airflow `{{ ds }}`."""

FOLDERS = ("scratch", "tmp")
"""Writable scratch folders of a step."""


def make_step(name: str, image: str, words: list[str]) -> KubernetesPodOperator:
    """Return the pod that runs one command and waits for its job."""
    return KubernetesPodOperator(
        task_id=name,
        name=f"sixray-{name}",
        namespace="sixray",
        service_account_name=SERVICE_ACCOUNT,
        image=f"{REGISTRY}/sixray-{image}:{TAG}",
        arguments=[*words, *BEAM],
        env_from=[
            k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="sixray-places")),
            k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="sixray-store")),
        ],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "3Gi"}, limits={"cpu": "1", "memory": "3Gi"}
        ),
        volumes=[k8s.V1Volume(name=name, empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="2Gi")) for name in FOLDERS],
        volume_mounts=[k8s.V1VolumeMount(name=name, mount_path=f"/{name}") for name in FOLDERS],
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=10001,
            run_as_group=10001,
            fs_group=10001,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        container_security_context=k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        on_finish_action="delete_succeeded_pod",
        get_logs=True,
    )


with DAG(
    dag_id="sixray_nightly",
    description="Convert, verify and score what came in.",
    schedule="0 18 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10), "execution_timeout": timedelta(hours=20)},
    tags=["sixray"],
) as dag:
    steps = [make_step(name, image, words) for name, (image, words) in STEPS.items()]
    for before, after in pairwise(steps):
        before.set_downstream(after)
