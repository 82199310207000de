"""How does a model go to other software? `sixray export` writes it as ONNX or as a program of torch.export."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from model.artifacts.export import FILE_NAMES, export_model
from model.artifacts.saved_model import load_model
from pipelines.runtime import command_line
from shards import storage


def export(model_url: str, output: str, format_name: str) -> dict[str, Any]:
    """Write a model's export, and beside it a document that says how to use it; return the document.

    Raises:
        ValueError: the model cannot be loaded, or the export does not give its logits.
    """
    file, document = export_model(load_model(model_url), format_name)
    storage.write_bytes(storage.join_url(output, document["file"]), file)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    storage.write_bytes(storage.join_url(output, f"{document['file']}.json"), text.encode())
    return document


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_line.make_parser(
        "export", "Write a model for other software: as ONNX or as a torch.export program."
    )
    parser.add_argument("--model", required=True, help="folder of the model: a path or an fsspec URL")
    parser.add_argument("--output", required=True, help="folder for the export and the document beside it")
    parser.add_argument("--format", choices=sorted(FILE_NAMES), default="onnx", help="of the export")
    flags = parser.parse_args(argv)
    document = export(flags.model, flags.output, flags.format)
    url = storage.join_url(flags.output, document["file"])
    told = f"largest difference to the network {document['largest_difference']:.1e} (at most {document['tolerance']})"
    print(f"{document['model_id']}: {url}, {told}")
    return command_line.OK


if __name__ == "__main__":
    sys.exit(main())
