"""docs/language.md: its examples load, and every key has its entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowcraft.workflow import load_workflow
from flowcraft.workflow.words import (
    BODIES,
    BUDGET_KEYS,
    DEFAULT_KEYS,
    LATER_STAGE_KEYS,
    LATER_TOP_KEYS,
    RESERVED,
    STAGE_KEYS,
    STRATEGIES,
    TOP_KEYS,
)

pytestmark = pytest.mark.unit

PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(yaml|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMED = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# (\S+\.(?:py|yaml))\n", text))}
WORKFLOWS = [text for kind, text in BLOCKS if kind == "yaml"]


@pytest.mark.parametrize("number", range(len(WORKFLOWS)))
def test_example_loads_without_a_doubt_beside_the_files_of_the_page(folder, number):
    for name, text in NAMED.items():
        folder.write(name, text)
    text = WORKFLOWS[number]
    if not re.search(r"^flowcraft: 1$", text, re.MULTILINE):
        text = "flowcraft: 1\n" + text

    workflow = load_workflow(folder.write("example.yaml", text))

    assert workflow.stages
    assert [str(warning) for warning in workflow.warnings] == []


@pytest.mark.parametrize(
    "key",
    sorted(
        {
            *TOP_KEYS,
            *STAGE_KEYS,
            *BODIES,
            *BUDGET_KEYS,
            *DEFAULT_KEYS,
            *STRATEGIES,
            *LATER_STAGE_KEYS,
            *LATER_TOP_KEYS,
            *RESERVED,
        }
    ),
)
def test_every_word_has_its_entry(key):
    in_code = " ".join(re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", PAGE))

    assert re.search(rf"\b{key}\b", in_code)


@pytest.mark.parametrize(("wrong", "right"), re.findall(r"^\| `(.+?)` \| `(.+?)` \| (?:braces|a value)", PAGE, re.MULTILINE))
def test_trap_of_the_page_shows_the_form_of_the_page(folder, wrong, right):
    wrong, right = wrong.replace("\\|", "|"), right.replace("\\|", "|")

    assert right in folder.problems(f"stages:\n  a:\n    x: 1\nx-trap:\n  {wrong}\n")[0].hint


def test_traps_are_on_the_page():
    assert len(re.findall(r"^\| `.+?` \| `.+?` \| (?:braces|a value)", PAGE, re.MULTILINE)) == 3
