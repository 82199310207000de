"""Which software wrote this? Versions for manifests and runs."""

import importlib.metadata
import platform


def installed_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of Python, of this software and of the named distributions that are installed."""
    versions = {"python": platform.python_version()}
    for name in ("sixray-pipeline", *distributions):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
