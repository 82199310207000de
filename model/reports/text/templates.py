"""Load the templates of a page: what all pages share lies in `model.reports`."""

from collections.abc import Mapping
from typing import Any

import jinja2


def make_environment(filters: Mapping[str, Any], package: str = "", *, autoescape: bool = True) -> jinja2.Environment:
    """Return what renders the templates of a package, and below them those of `model.reports`; a missing value raises.

    Args:
        filters: functions by their names in the templates.
        package: has a folder `templates`; empty: those of `model.reports` alone.
        autoescape: for HTML; without it for Markdown.
    """
    packages = [package] if package else []
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (*packages, "model.reports")]),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment
