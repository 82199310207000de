"""Write the card of a model: what it is for, what it learnt from, its figures with intervals, its limits."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from model.artifacts.model_files import ModelFiles
from model.cards.figures import figures_table, list_limits, model_index, state_rating
from shards.cards.card_file import make_card


def model_card(files: ModelFiles, license_id: str | None, metrics: Mapping[str, Any] | None) -> bytes:
    """Return the card, for the Hugging Face hub.

    Args:
        files: of the model.
        license_id: of the weights, as the hub calls it; None: the card says that it is not stated.
        metrics: of a report of this model; None: the card says that no figures are known.
    """
    document = files.document
    front: dict[str, Any] = {
        **({"license": license_id} if license_id else {}),
        "pipeline_tag": "image-classification",
        "library_name": "sixray-pipeline",
        "tags": ["x-ray", "security", "prohibited-items", document["network"]],
        **({"model-index": model_index(files.model_id, metrics)} if metrics else {}),
    }
    rated = "No report was given with `--report`: how good the model is, is not known from this card."
    if metrics:
        rated = f"{state_rating(metrics)}\n\n{figures_table(metrics)}"
    sections = (
        f"# {files.model_id}\n\nScores X-ray scans of bags for {', '.join(document['classes'])}, and says where in the "
        f"scan the evidence of each lies.",
        "## Intended use\n\n"
        "To sort and alarm: an operator looks at the scans with the highest scores first, or at those above a "
        "threshold that was found for a budget of false alarms (`sixray alarms`, `sixray calibrate`). Not to clear a "
        "bag without a person, and not for other classes or other kinds of image.\n\n"
        "```sh\nsixray score --model MODEL --input DATASET --output PREDICTIONS\n```",
        "## Model\n\n" + "\n".join(f"- {line}" for line in _describe(document)),
        "## Training data\n\n" + "\n".join(f"- {line}" for line in _describe_training(document["provenance"])),
        f"## Figures\n\n{rated}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _list_limits(metrics)),
        f"## License\n\n{license_id or 'Not stated; ask whoever trained it.'}",
    )
    return make_card(front, "\n\n".join(sections))


def _describe(document: Mapping[str, Any]) -> Iterator[str]:
    size = document["image_size_px"]
    yield f"Network `{document['network']}` on backbone `{document['backbone']}`, {document['num_levels']} levels."
    yield f"Input: RGB, {size} x {size} pixels, the whole scan squashed to a square."
    yield f"Weights: `model.safetensors`, sha256 `{document['weights_sha256']}`."


def _describe_training(provenance: Mapping[str, Any]) -> Iterator[str]:
    if not provenance:
        yield "The model does not say what it was trained on."
        return
    if digest := provenance.get("dataset_digest"):
        splits = ", ".join(provenance.get("splits", ["train"]))
        yield f"Dataset `{digest}`, split {splits}."
    config = provenance.get("config") or {}
    if recipe := config.get("recipe"):
        epochs = f"{provenance['num_epochs']} epochs, kept epoch {provenance['epoch']}"
        yield f"Recipe `{recipe}`, {epochs}."
    for name, value in provenance.items():
        if name.startswith("validation_") and value is not None:
            yield f"{name.replace('_', ' ')}: {value:.3f}, on scans that were held out of the training split."
    if versions := provenance.get("versions"):
        yield "Trained with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    if other := {name: value for name, value in provenance.items() if name in ("source", "initial_model")}:
        yield f"Origin: {json.dumps(other)}."


def _list_limits(metrics: Mapping[str, Any] | None) -> Iterator[str]:
    yield "Other scanners, items or travellers than those it learnt from may score otherwise (see `sixray drift`)."
    yield "A score is no probability unless it was calibrated on scans like those that it is used on."
    if metrics:
        yield from list_limits(metrics)
