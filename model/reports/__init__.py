"""Render an evaluation: metrics.json, tables, charts and the report page."""

__all__ = [
    "charts",
    "csv_tables",
    "gallery",
    "heatmap_overlay",
    "metrics_json",
    "output_folder",
    "page",
    "requirements",
    "text",
    "threshold_file",
    "tradeoff_charts",
    "trend",
]
