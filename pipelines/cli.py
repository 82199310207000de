"""Run the command that the first word names: `sixray`, one module for each command."""

import importlib
import os
import sys
from collections.abc import Sequence

from pipelines.runtime import interrupts

COMMANDS = {
    "synth": "generate a corpus of X-ray scans in the SIXray layout",
    "convert": "turn a corpus into a dataset of WebDataset shards",
    "reshard": "turn datasets into one with other shards, splits, classes or rows",
    "project": "multiply items into other scans: threat image projection",
    "verify": "read every byte of a dataset or of predictions and name what is wrong",
    "info": "describe a dataset, predictions or a model",
    "annotate": "write scans for an annotation tool, and corrections of what comes back",
    "diff": "say which scans, labels and boxes of two datasets came, went or changed",
    "train": "train a network on a dataset",
    "score": "score a dataset with a model",
    "box-share": "find the share of a map's peak at which a model's boxes fit, for score --boxes",
    "import-predictions": "turn scores of another program into predictions of a dataset",
    "alarms": "list the scans whose scores reach a threshold",
    "calibrate": "find thresholds whose false alarms or misses stay below a limit on new scans",
    "drift": "compare the scores of new scans with a reference, night after night",
    "evaluate": "report how good predictions are",
    "review": "rank scans whose labels are likely wrong",
    "reproduce": "train and score a paper's table, and print ours beside the paper's",
    "label-levels": "label each scan with the best level of a network, to train Meta Fusion with",
    "overlays": "draw scans with heatmap, peak and true boxes",
    "quantize": "quantize a model to int8 for processors, if held-out scans show no loss",
    "export": "write a model as ONNX or as a torch.export program",
    "import-chr": "make a model of a checkpoint of the CHR authors' code",
    "card": "write the card of a dataset (with Croissant metadata), a model or a report",
    "demo": "run all of it on generated scans",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 fine, 1 findings, 2 wrong usage)."""
    with interrupts.handle_interrupts():
        code = _main(list(sys.argv[1:] if argv is None else argv))
        if argv is None and interrupts.is_interrupted():
            os._exit(code)  # threads of Beam that still work would be waited for
        return code


def _main(words: list[str]) -> int:
    if words == ["--version"]:
        from importlib.metadata import version

        print(f"sixray {version('sixray-pipeline')}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        print(f"error: command must be one of {', '.join(COMMANDS)}, got {command!r}", file=sys.stderr)
        return 2
    # Imported on demand: `convert` must run where PyTorch and DALI are not installed.
    module = importlib.import_module(f"pipelines.{command.replace('-', '_')}")
    return int(module.main(rest))


def _usage() -> str:
    lines = [f"  {name:<18} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: sixray COMMAND [FLAGS] [-- BEAM_OPTIONS]", "", *lines, "", "sixray COMMAND --help"])


if __name__ == "__main__":
    sys.exit(main())
