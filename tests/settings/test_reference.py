"""The reference in docs/settings.md is made from the page, and says everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flowcraft.settings import Settings, load_settings
from flowcraft.settings.explain import ACTS_LATER
from flowcraft.settings.problems import key_paths
from flowcraft.settings.reference import reference_markdown, with_reference

pytestmark = pytest.mark.integration

PAGE = Path(__file__).resolve().parents[2] / "docs/settings.md"


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text("utf-8")
    assert with_reference(page) == page, "run `make generated`"


def test_every_key_stands_in_the_reference_with_a_meaning() -> None:
    lines = [line for line in reference_markdown().splitlines() if line.startswith("| `")]
    keys = {line.split("`")[1] for line in lines}
    for path in key_paths(Settings):
        named = ".".join(path).replace(".models.<name>", ".models.<model>")
        assert named in keys
    assert all(line.rstrip(" |").split("|")[-1].strip() for line in lines)


def test_what_acts_later_are_keys_of_the_page() -> None:
    keys = [".".join(path) for path in key_paths(Settings)]
    for prefix in ACTS_LATER:
        assert any(key == prefix or key.startswith(f"{prefix}.") for key in keys)


def test_the_file_that_the_page_shows_loads(tmp_path: Path) -> None:
    example = PAGE.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(example)
    (tmp_path / "settings.yaml").write_text(example)
    settings = load_settings(environ={"OPENROUTER_API_KEY": "k-123456"}, cwd=tmp_path)
    assert settings.configured_providers() == ("openrouter", "local")
    assert settings.chain_for(model="quick").names == ("local:llama3.2",)
