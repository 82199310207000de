"""Render an evaluation: metrics.json, tables, charts and the report page."""

__all__ = [
    "charts",
    "csv_tables",
    "gallery",
    "heatmap_overlay",
    "metrics_json",
    "numbers",
    "output_folder",
    "page",
    "requirements",
    "sentences",
    "threshold_file",
    "tradeoff_charts",
    "trend",
]
