"""docs/features.md is whole, and what it calls done has a page and a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
IDS = [
    f"{letter}{number}" for letter, last in {"O": 9, "F": 8, "C": 10, "S": 15, "K": 18}.items() for number in range(1, last + 1)
]
STATE = re.compile(r"done|later|part \(.+\)")


def rows() -> dict[str, tuple[str, str, str]]:
    """Page, tests and state by id."""
    found = {}
    for line in (ROOT / "docs" / "features.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[A-Z]\d+", cells[0]):
            assert len(cells) == 5, line
            found[cells[0]] = (cells[2], cells[3], cells[4])
    return found


def test_every_feature_has_one_row() -> None:
    text = (ROOT / "docs" / "features.md").read_text("utf-8")
    assert re.findall(r"^\| ([A-Z]\d+) \|", text, re.MULTILINE) == IDS
    assert list(rows()) == IDS
    assert [state for *_, state in rows().values() if not STATE.fullmatch(state)] == []


@pytest.mark.parametrize("feature", IDS)
def test_feature_names_its_page_and_its_test(feature: str) -> None:
    page, tests, state = rows()[feature]
    files = re.findall(r"`([\w/-]+(?:\.py)?)`", tests)
    if state == "later":
        assert (page, files) == ("", [])
        return
    assert re.search(r"\(([\w-]+)\.md[^)]*\)", page), f"{feature} is {state} and names no page"
    assert files, f"{feature} is {state} and names no test"
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert all(
        re.search(r"^(async )?def test_|^    (async )?def test_|class Test", (ROOT / file).read_text("utf-8"), re.MULTILINE)
        for file in files
    )
