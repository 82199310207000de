"""Read the versions in `deploy/versions.env`."""

from pathlib import Path

VERSIONS_FILE = Path(__file__).parents[1] / "versions.env"


def read_versions(path: Path = VERSIONS_FILE) -> dict[str, str]:
    """Return the versions by name.

    Raises:
        ValueError: a line is neither `NAME=value` nor a comment.
    """
    versions = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        name, is_pair, value = line.partition("=")
        if not (is_pair and name and value):
            raise ValueError(f"line must be NAME=value, got {line!r} ({path} line {number})")
        versions[name] = value
    return versions
