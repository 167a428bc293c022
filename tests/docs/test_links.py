"""Links lead somewhere, and the built pages need no network. (Links inside docs/ are checked by mkdocs itself.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "plugins/flowcraft-anthropic/README.md",
        "plugins/flowcraft-openai/README.md",
    ],
)
def test_relative_links_lead_to_files(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    pages = list(tmp_path.glob("*.html"))
    assert pages
    loaded = {
        link
        for page in pages
        for link in re.findall(r"<(?:script|link|img)[^>]+?(?:src|href)=\"?(https?:[^\"> ]+)", page.read_text("utf-8"))
    }
    assert loaded == set()
