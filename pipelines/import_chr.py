"""How does a model of the CHR authors' code come here? `sixray import-chr` makes a model of their checkpoint."""

import sys
from collections.abc import Sequence

from model.artifacts.import_chr import import_checkpoint
from model.artifacts.saved_model import save_model
from pipelines.runtime import command_line, log
from shards import storage


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_line.make_parser(
        "import-chr", "Turn a checkpoint of the CHR authors' code (ResNet-101) into a model; no pickled code is run."
    )
    parser.add_argument("checkpoint", metavar="FILE", help="what their code saved: checkpoint.pth.tar, a path or URL")
    parser.add_argument("--output", required=True, help="folder of the model")
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="of its outputs in order; SIXray's five by default"
    )
    flags = parser.parse_args(argv)
    network, config, provenance = import_checkpoint(storage.normalise_url(flags.checkpoint), flags.classes)
    model_id = save_model(flags.output, network, config, provenance)
    print(f"{model_id}: {flags.output}")
    log.say(
        "its prediction is the mean over the three levels, as in the paper; the authors' code rates fc1 (level 3) alone"
    )
    return command_line.OK


if __name__ == "__main__":
    sys.exit(main())
