"""Does Airflow itself take the DAG? It runs in an environment of its own, which nothing else here needs."""

import json
import os
import subprocess

from deploy.local.versions import read_versions
from tests.deploy.manifests import DEPLOY

SCRIPT = """
import json, sys
from airflow.models import DagBag
bag = DagBag(sys.argv[1], include_examples=False)
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
print(json.dumps({task.task_id: [sorted(task.downstream_task_ids), task.arguments] for task in dag.tasks}))
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
    assert all("--runner=FlinkRunner" in words for _, words in tasks.values())
