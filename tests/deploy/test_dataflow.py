"""Tests of the Flex Template: its parameters are the command's and build the conversion's graph."""

import json
import re
import shlex
import subprocess

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions, WorkerOptions

from pipelines import convert
from tests.corpora import make_corpus
from tests.deploy.manifests import DEPLOY, module_at

TEMPLATE = json.loads((DEPLOY / "dataflow" / "template.json").read_text())
METADATA = TEMPLATE["metadata"]
launch = module_at(DEPLOY / "dataflow" / "launch.py")
GOOGLE = [
    "--runner=DataflowRunner",
    "--project=a-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket-of-tests/tmp",
    "--staging_location=gs://bucket-of-tests/staging",
    "--job_name=sixray-convert",
]


@pytest.mark.slow
def test_the_graph_is_built_offline(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    own = [f"--input={corpus.root}", f"--output={tmp_path / 'out'}", "--shard_bytes=15000", "--layout=sixray"]
    environment = TEMPLATE["defaultEnvironment"]
    more = [
        f"--sdk_container_image={environment['sdkContainerImage']}",
        f"--max_num_workers={environment['maxWorkers']}",
    ]
    more += [f"--experiments={name}" for name in environment["additionalExperiments"]]
    pipeline = launch.build_pipeline([*GOOGLE, *own, *more])
    assert pipeline.options.view_as(StandardOptions).runner == "DataflowRunner"
    assert pipeline.options.view_as(GoogleCloudOptions).job_name == "sixray-convert"
    assert pipeline.options.view_as(WorkerOptions).sdk_container_image == TEMPLATE["image"]
    labels = {part.unique_name for part in pipeline.to_runner_api().components.transforms.values()}
    assert {"CreateSources", "ListFacts", "GroupByShard", "WriteShard", "WriteManifest"} <= labels
    assert not (tmp_path / "out").exists()


def test_a_misspelt_parameter_is_refused(tmp_path):
    make_corpus(tmp_path / "corpus")
    with pytest.raises(ValueError, match=r"Beam options must be known to apache-beam .*, got --shard_byte=3"):
        launch.build_pipeline([*GOOGLE, f"--input={tmp_path / 'corpus'}", f"--output={tmp_path}/o", "--shard_byte=3"])


def test_a_missing_parameter_is_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        launch.build_pipeline([*GOOGLE, "--output=gs://b/o"])
    assert "--input" in capsys.readouterr().err


@pytest.mark.parametrize("parameter", METADATA["parameters"], ids=lambda parameter: parameter["name"])
def test_a_parameter_is_a_flag_of_the_command(parameter):
    flag = f"--{parameter['name'].replace('_', '-')}"
    (action,) = [one for one in convert.make_parser()._actions if flag in one.option_strings]
    assert action.required is not parameter.get("isOptional", False)
    (regex,) = parameter["regexes"]
    for choice in action.choices or ():
        assert re.fullmatch(regex, str(choice)), choice


def test_the_command_needs_no_more_than_the_template_asks_for():
    required = {one.option_strings[0] for one in convert.make_parser()._actions if one.required}
    asked = {f"--{one['name']}" for one in METADATA["parameters"] if not one.get("isOptional")}
    assert required == asked


def test_the_runbook_puts_this_template_into_a_bucket_and_runs_it():
    text = (DEPLOY / "README.md").read_text()
    ((made, url),) = re.findall(r"^(sed .*) \| gcloud storage cp - (\S+)$", text, re.MULTILINE)
    found = subprocess.run(shlex.split(made), cwd=DEPLOY.parent, capture_output=True, text=True, check=True).stdout
    assert json.loads(found).keys() == TEMPLATE.keys() and "PROJECT" not in found
    (run,) = re.findall(r"^gcloud dataflow flex-template run (?:[^\n]*\\\n)*[^\n]*", text, re.MULTILINE)
    assert f"--template-file-gcs-location {url} " in run
    (parameters,) = re.findall(r"--parameters (\S+)", run)
    values = dict(pair.split("=") for pair in parameters.split(","))
    regexes = {one["name"]: one["regexes"][0] for one in METADATA["parameters"]}
    assert all(re.fullmatch(regexes[name], value) for name, value in values.items())
    assert {one["name"] for one in METADATA["parameters"] if not one.get("isOptional")} <= values.keys()
