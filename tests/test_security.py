"""Every threat in SECURITY.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("|") and "::" in line]


def test_every_threat_has_tests_and_each_of_them_exists():
    table = (ROOT / "SECURITY.md").read_text().partition("## Threats")[2]
    threats = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert threats == ROWS and len(threats) > 10
    for row in threats:
        for path, name in re.findall(r"`([^`]+)::(\w+)`", row.split("|")[3]):
            assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
