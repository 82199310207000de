"""Does the Flex Template build the conversion's graph from its parameters, and are they the command's?"""

import json
import re

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

from pipelines import convert
from tests.corpora import make_corpus
from tests.deploy.manifests import DEPLOY, module_at

METADATA = json.loads((DEPLOY / "dataflow" / "metadata.json").read_text())
TEMPLATE = json.loads((DEPLOY / "dataflow" / "template.json").read_text())
launch = module_at(DEPLOY / "dataflow" / "launch.py")
GOOGLE = [
    "--runner=DataflowRunner",
    "--project=a-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket-of-tests/tmp",
    "--staging_location=gs://bucket-of-tests/staging",
    "--job_name=sixray-convert",
]


def test_the_graph_is_built_offline(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    own = [f"--input={corpus.root}", f"--output={tmp_path / 'out'}", "--shard_bytes=15000", "--layout=sixray"]
    more = [f"--{name}" for name in TEMPLATE["defaultEnvironment"]["additionalPipelineOptions"]]
    pipeline = launch.build_pipeline([*GOOGLE, *own, *more, "--experiments=use_runner_v2"])
    assert pipeline.options.view_as(StandardOptions).runner == "DataflowRunner"
    assert pipeline.options.view_as(GoogleCloudOptions).job_name == "sixray-convert"
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
