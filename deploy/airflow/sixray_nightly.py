"""The same night as an Airflow DAG: convert what has come in, verify it, score it; each a pod that drives a Flink job.

Set the Airflow variables `sixray_corpus`, `sixray_datasets`, `sixray_model` and `sixray_predictions`; the day's dataset
is a folder of the archive `sixray_datasets`. A step that fails is tried again: it resumes, and does nothing twice.
"""

from datetime import datetime, timedelta
from itertools import pairwise

from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

REGISTRY = "registry.example.com"
TAG = "0.1.0"
DATASET = "{{ var.value.sixray_datasets }}/{{ ds }}"

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
    "--parallelism=4",
]
CONVERT = ["convert", "--input={{ var.value.sixray_corpus }}/{{ ds }}", f"--output={DATASET}"]
VERIFY = ["verify", DATASET, f"--report={DATASET}-damages.json"]
SCORE = [
    "score",
    "--model={{ var.value.sixray_model }}",
    "--input={{ var.value.sixray_datasets }}",
    "--output={{ var.value.sixray_predictions }}",
    "--log-format=json",
]
"""An archive, so that a night that was missed is made up for by the next one."""

STEPS = {"convert": ("convert", CONVERT), "verify": ("convert", VERIFY), "score": ("score-cpu", SCORE)}
"""Image and words of each step, in order."""


def make_step(name: str, image: str, words: list[str]) -> KubernetesPodOperator:
    """Return the pod that runs one command and waits for its job."""
    return KubernetesPodOperator(
        task_id=name,
        name=f"sixray-{name}",
        namespace="sixray",
        image=f"{REGISTRY}/sixray-{image}:{TAG}",
        arguments=[*words, *BEAM],
        env_from=[
            k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="sixray-places")),
            k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="sixray-store")),
        ],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "3Gi"}, limits={"cpu": "1", "memory": "3Gi"}
        ),
        security_context={"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
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
