"""Launch a conversion on Dataflow from a Flex Template: build the pipeline from the template's parameters.

Dataflow passes every parameter as `--name=value`, including its own options. Those in `template.json` belong to the
command; the rest are Beam's, parsed strictly. The launcher does not wait for the job; check the dataset with
`sixray verify`.
"""

import sys
from collections.abc import Sequence

import apache_beam as beam

from pipelines import convert
from pipelines.runtime.flags import make_config
from pipelines.runtime.runners import make_beam_options
from pipelines.steps.corpus_job import ConvertConfig, check_places, find_job, plan_dataset
from pipelines.transforms.convert import add_conversion
from shards import storage
from shards.writing.output_folder import find_finished


def main(argv: Sequence[str]) -> None:
    build_pipeline(argv).run()


def build_pipeline(argv: Sequence[str]) -> beam.Pipeline:
    """Return the conversion that the parameters describe.

    Raises:
        ValueError: the corpus or an option is not what it must be.
        SystemExit: a parameter of the command is missing or has a value that it does not take.
    """
    words, beam_options = split_parameters(argv)
    config = make_config(ConvertConfig, convert.make_parser().parse_args(words))
    job = find_job(config)
    check_places(job.corpus, config.output)
    plan = plan_dataset(job, config)
    find_finished(plan.output, plan.options_record, lambda: None, overwrite=config.overwrite)
    storage.sweep_temporaries(plan.output)
    pipeline = beam.Pipeline(options=make_beam_options(beam_options))
    add_conversion(pipeline, job, config, plan)
    return pipeline


def split_parameters(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the command's flags and Beam's; a parameter `shard_bytes` is the flag `--shard-bytes`."""
    known = {flag for action in convert.make_parser()._actions for flag in action.option_strings}
    own, rest = [], []
    for word in argv:
        name, is_pair, value = word.partition("=")
        flag = name.replace("_", "-")
        if flag in known:
            own.append(f"{flag}{is_pair}{value}")
        else:
            rest.append(word)
    return own, rest


if __name__ == "__main__":
    main(sys.argv[1:])
