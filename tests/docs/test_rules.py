"""Each section of docs/language.md has its file of proofs in tests/rules, and each file names its sections."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = re.sub(r"^```.*?^```", "", (ROOT / "docs" / "language.md").read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
HEADINGS = re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)
NO_RULES = {"In an editor", "Words for later"}
"""Sections that tell of the program, not of what a file may say."""

SECTIONS = [title for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE) if title not in NO_RULES]
FILES = sorted((ROOT / "tests" / "rules").glob("test_*.py"))


def named(path: Path) -> list[str]:
    """The sections that a file says it proves."""
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return re.findall(r'"([^"]+)"', said.partition("\n")[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_rules_names_sections_of_the_page(path):
    assert named(path)
    assert set(named(path)) <= {*HEADINGS, *(heading.partition(":")[0] for heading in HEADINGS)}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_of_the_page_has_its_file_of_rules(section):
    assert any(section in named(path) for path in FILES)
