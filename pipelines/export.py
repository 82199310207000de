"""Write a model for other software: as ONNX or as a torch.export program."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from model.artifacts.export import FILE_NAMES, export_model
from model.artifacts.saved_model import load_model
from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, make_config
from shards import storage


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """A model to export, and where the export goes."""

    model: str
    """Folder of the model: a path or an fsspec URL."""
    output: str
    """Folder for the export and the document beside it."""
    format: Annotated[str, Flag(choices=sorted(FILE_NAMES))] = "onnx"
    """Format of the export."""


def write_export(config: ExportConfig) -> dict[str, Any]:
    """Write a model's export, and beside it a document that says how to use it; return the document.

    Raises:
        ValueError: the model cannot be loaded, or the export does not give its logits.
    """
    file, document = export_model(load_model(config.model), config.format)
    storage.write_bytes(storage.join_url(config.output, document["file"]), file)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    storage.write_bytes(storage.join_url(config.output, f"{document['file']}.json"), text.encode())
    return document


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(ExportConfig, make_parser().parse_args(argv))
    document = write_export(config)
    url = storage.join_url(config.output, document["file"])
    difference = f"{document['largest_difference']:.1e} (at most {document['tolerance']})"
    print(f"{document['model_id']}: {url}, largest difference to the network {difference}")
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "export", ExportConfig, "Write a model for other software: as ONNX or as a torch.export program."
    )


if __name__ == "__main__":
    sys.exit(main())
