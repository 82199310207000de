"""Tests that Airflow loads the DAG, in its own environment."""

import json
import os
import subprocess

import kubernetes_validate

from deploy.local.versions import read_versions
from tests.deploy.manifests import DEPLOY

SCRIPT = """
import json, sys
from airflow.models import DagBag
from kubernetes.client import ApiClient
bag = DagBag(sys.argv[1], include_examples=False)
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
pod_of = lambda task: ApiClient().sanitize_for_serialization(task.build_pod_request_obj())
print(json.dumps({task.task_id: [sorted(task.downstream_task_ids), pod_of(task)] for task in dag.tasks}))
"""


def test_airflow_imports_the_dag(tmp_path):
    versions = read_versions()
    packages = [
        f"apache-airflow=={versions['AIRFLOW_VERSION']}",
        f"apache-airflow-providers-cncf-kubernetes=={versions['AIRFLOW_KUBERNETES_VERSION']}",
    ]
    withs = [word for package in packages for word in ("--with", package)]
    uv = [os.environ.get("UV", "uv"), "run", "--quiet", "--isolated", "--no-project", "--python", "3.11"]
    variables = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "KUBECONFIG": str(write_kubeconfig(tmp_path)),
    }
    found = subprocess.run(
        [*uv, *withs, "python", "-W", "ignore", "-c", SCRIPT, str(DEPLOY / "airflow")],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    tasks = json.loads(found.stdout.splitlines()[-1])
    assert {name: after for name, (after, _) in tasks.items()} == {
        "convert": ["verify"],
        "verify": ["score"],
        "score": [],
    }
    for _, pod in tasks.values():
        kubernetes_validate.validate(pod, versions["KUBERNETES_VERSION"], strict=True)
        assert_has_no_more_rights_than_it_needs(pod["spec"])


def write_kubeconfig(folder):
    """Write a file that names a cluster, which nobody asks: without one the operator makes no pod."""
    path = folder / "kubeconfig"
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    cluster = {"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}
    user = {"name": "none", "user": {"token": "none"}}
    config = {"current-context": "none", "contexts": [context], "clusters": [cluster], "users": [user]}
    path.write_text(json.dumps(config))
    return path


def assert_has_no_more_rights_than_it_needs(spec):
    (container,) = spec["containers"]
    assert spec["serviceAccountName"] == "sixray-step"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    rights = container["securityContext"]
    assert rights["allowPrivilegeEscalation"] is False and rights["readOnlyRootFilesystem"] is True
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert {"/scratch", "/tmp"} == {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"--runner=FlinkRunner", "--parallelism=$(PARALLELISM)"} <= set(container["args"])
