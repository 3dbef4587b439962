"""Promise: every quirk that docs/compatibility.md lists has a test of the name given there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "compatibility.md").read_text()))
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    found = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.M)}
    assert named and named <= found, sorted(named - found)
