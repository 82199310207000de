"""Write the card of a report: what was rated, what is caught, every class with its interval, what to know first."""

from collections.abc import Mapping
from typing import Any

from model.cards.figures import figures_table, list_limits, model_index, state_rating, thresholds_table
from shards.cards.card_file import make_card


def report_card(metrics: Mapping[str, Any]) -> bytes:
    """Return the card of a report from its metrics.json, of any format."""
    model_id = metrics["model_id"]
    front = {
        "tags": ["x-ray", "security", "prohibited-items", "evaluation"],
        "model-index": model_index(model_id, metrics),
    }
    sections = [
        f"# {model_id} on split {metrics['split']}\n\n{state_rating(metrics)}",
        "## What to know first\n\n" + "\n".join(f"- {line}" for line in list_limits(metrics)),
        f"## Figures\n\n{figures_table(metrics)}",
    ]
    if thresholds := thresholds_table(metrics):
        sections.append(f"## Thresholds\n\nFound for all classes together, on these scans.\n\n{thresholds}")
    sections.append(
        "The page is `report.html`; `metrics.json` has every figure in full precision, `scans.parquet` every scan."
    )
    return make_card(front, "\n\n".join(sections))
