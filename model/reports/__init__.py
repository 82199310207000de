"""Render an evaluation: metrics.json, tables, charts and the report page."""
