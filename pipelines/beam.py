"""Which runner, and which of its options? Beam's own words, taken as strictly as the project's flags."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def make_beam_options(words: Sequence[str]) -> PipelineOptions:
    """Return Beam's options from the words behind a lone `--`.

    Raises:
        ValueError: a word is none of the options that this Beam release knows (Beam itself only logs a warning).
        SystemExit: a value is not one that its option takes; argparse has said so.
    """
    parsers: list[object] = []
    # The callback is Beam's way to let a runner add options of its own: the one place that shows the whole parser.
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    _, unknown = parsers[0].parse_known_args(list(words))  # type: ignore[attr-defined]
    if unknown:
        raise ValueError(
            f"Beam options must be known to apache-beam {beam.version.__version__}, got {' '.join(unknown)}; "
            f"the project's own flags stand before the `--`"
        )
    return PipelineOptions(list(words))


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """Return a pipeline on the runner that the options name, else on the embedded one.

    The embedded runner is named outright: Beam's default would first try to download another one.
    """
    named = options.view_as(StandardOptions).runner
    return beam.Pipeline(runner=None if named else FnApiRunner(), options=options)
