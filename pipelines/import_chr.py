"""Make a model of a checkpoint of the CHR authors' code."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from model.artifacts.import_chr import import_checkpoint
from model.artifacts.saved_model import save_model
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import NAMES, Flag, make_config
from shards import storage


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportChrConfig:
    """A checkpoint, and the model to make of it."""

    checkpoint: Annotated[str, Flag("checkpoint", metavar="FILE")]
    """File that their code saved: checkpoint.pth.tar, a path or URL."""
    output: str
    """Folder of the model."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes of its outputs in order; SIXray's five by default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(ImportChrConfig, make_parser().parse_args(argv))
    checkpoint_url = storage.normalise_url(config.checkpoint)
    network, model_config, provenance = import_checkpoint(checkpoint_url, config.classes or None)
    model_id = save_model(config.output, network, model_config, provenance)
    print(f"{model_id}: {config.output}")
    log.status(
        "its prediction is the mean over the three levels, as in the paper; the authors' code rates fc1 (level 3) alone"
    )
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "import-chr",
        ImportChrConfig,
        "Turn a checkpoint of the CHR authors' code (ResNet-101) into a model; no pickled code is run.",
    )


if __name__ == "__main__":
    sys.exit(main())
