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
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+?) \| (.*?) \| (.*?) \| (done|part|later)( \(.+\))? \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str, str]]:
    text = (ROOT / "docs" / "features.md").read_text("utf-8")
    return {found[1]: (found[3], found[4], found[5]) for found in ROW.finditer(text)}


def test_every_feature_has_one_row() -> None:
    text = (ROOT / "docs" / "features.md").read_text("utf-8")
    assert re.findall(r"^\| ([A-Z]\d+) \|", text, re.MULTILINE) == IDS
    assert list(rows()) == IDS


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
