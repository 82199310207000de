"""Are Beam's own options taken strictly, and is the runner the one we mean?"""

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from pipelines.beam import make_beam_options, make_pipeline


def test_known_options_are_taken():
    options = make_beam_options(["--runner=FlinkRunner", "--flink_master=localhost:8081", "--parallelism", "4"])
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(FlinkRunnerOptions).parallelism == 4


@pytest.mark.parametrize("word", ["--runer=FlinkRunner", "--flink-master=x", "stray", "--paralelism=4", "--par=4"])
def test_a_misspelt_option_is_refused(word):
    with pytest.raises(ValueError, match=r"Beam options must be known to apache-beam .*, got " + word):
        make_beam_options(["--parallelism=2", word])


def test_a_value_of_the_wrong_type_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exit_info:
        make_beam_options(["--parallelism=many"])
    assert exit_info.value.code == 2
    assert "--parallelism" in capsys.readouterr().err


def test_the_embedded_runner_runs_what_names_no_runner():
    with make_pipeline(make_beam_options([])) as pipeline:
        assert type(pipeline.runner) is FnApiRunner
        assert_that(pipeline | beam.Create([1, 2]) | beam.Map(lambda n: n + 1), equal_to([2, 3]))


def test_a_named_runner_is_the_one_that_runs():
    pipeline = make_pipeline(make_beam_options(["--runner=FlinkRunner"]))
    assert type(pipeline.runner).__name__ == "FlinkRunner"
