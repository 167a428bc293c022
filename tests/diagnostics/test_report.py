"""The report and its recommendations, from results made up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.attempts import Attempt
from flowcraft.diagnostics import ModelTest
from flowcraft.diagnostics.advice import advise, family
from flowcraft.diagnostics.report import Report, write_json, write_markdown
from flowcraft.errors import FlowCraftError
from flowcraft.llm.ports import ModelStatistics
from flowcraft.settings import load_settings

pytestmark = pytest.mark.unit

Make = Callable[..., ModelTest]

FREE = {"input": 0, "output": 0}


def roles(*tests: ModelTest) -> dict[str, tuple[str, ...]]:
    return {role: names for role, names in advise(tests).roles.items() if names}


def report(*tests: ModelTest, known: dict[str, ModelStatistics] | None = None) -> Report:
    asked = {"prompt": "say `ready` | now", "rounds": 3, "timeout": 60.0, "started": 1_700_000_000.0, "seconds": 4.2}
    return Report(tests=tests, advice=advise(tests), known=known or {}, asked=asked)


def test_the_fastest_leads_and_one_of_another_family_doubles_it(made: Make) -> None:
    found = roles(
        made("meta/big", 2.0, 2.0),
        made("meta/quick", 0.5, 0.5),
        made("meta/small", 0.7, 0.7),
        made("google/gem", 1.0, 1.0),
        made("qwen/last", 9.0, 9.0),
    )
    assert found == {
        "primary": ("meta/quick",),
        "duplicate": ("google/gem",),
        "reserve": ("meta/small", "meta/big"),
        "fallback": ("qwen/last",),
    }


def test_what_is_free_or_unsteady_comes_last(made: Make) -> None:
    found = roles(
        made("a/free", 0.1, price=FREE),
        made("b/flaky", 0.2, 0.2, errors=("ProviderUnavailable",)),
        made("c/steady", 1.0),
        made("d/other", 2.0),
    )
    assert found == {"primary": ("c/steady",), "duplicate": ("a/free",), "reserve": ("d/other",), "fallback": ("b/flaky",)}


def test_where_only_free_or_unsteady_models_work_they_do_the_work(made: Make) -> None:
    assert roles(made("free", 0.1, price=FREE)) == {"primary": ("free",)}
    assert roles(made("flaky", 0.2, 0.2, errors=("RateLimited",))) == {"primary": ("flaky",)}
    assert roles(made("dead", errors=("RateLimited",))) == {}


def test_equals_stay_in_the_order_of_settings(made: Make) -> None:
    assert roles(made("b/one", 0.50), made("b/two", 0.49))["primary"] == ("b/one",)
    assert roles(made("b/one", 0.50), made("b/two", 0.30))["primary"] == ("b/two",)


def test_what_fails_is_dropped_with_a_reason_and_what_to_do(made: Make) -> None:
    drop = advise(
        [
            made("good", 0.1),
            made("refused", errors=("AuthenticationFailed",)),
            made("odd", errors=("SomethingNew", "SomethingNew")),
            made("mostly", 0.1, errors=("ProviderTimeout", "ProviderTimeout")),
            made("far", skip="KEY is not set"),
        ]
    ).drop
    assert drop == {
        "refused": "1 of 1 calls failed (AuthenticationFailed); its key is refused: check the key of its provider",
        "odd": "2 of 2 calls failed (SomethingNew x 2)",
        "mostly": "2 of 3 calls failed (ProviderTimeout x 2); it did not answer in time: "
        "give it a longer --timeout, or drop it",
        "far": "it cannot be asked: KEY is not set",
    }


@pytest.mark.parametrize(
    ("model", "known", "expected"),
    [
        ("meta-llama/llama-3.2-1b-instruct", "", "meta-llama"),
        ("gpt-4o-mini", "", "gpt"),
        ("qwen2.5-coder:7b", "", "qwen"),
        ("openai/gpt-5", "gpt", "gpt"),
    ],
)
def test_a_family_is_what_is_known_else_the_maker_else_a_word(made: Make, model: str, known: str, expected: str) -> None:
    assert family(made(model, family=known)) == expected


def test_a_single_round_and_a_single_family_are_remarked_on(made: Make) -> None:
    notes = " ".join(advise([made("gpt-1", 0.1), made("gpt-2", 0.2)]).notes)
    assert "several rounds" in notes
    assert "another family" in notes
    assert advise([made("gpt-1", 0.1, 0.1), made("qwen", 0.2, 0.2)]).notes == ()


def test_the_settings_can_be_pasted(made: Make, tmp_path: Path) -> None:
    settings = advise([made('a"b: {x}', 0.1), made("meta/llama:free", 0.2), made("ямб", 0.3), made("null", 0.4)]).settings
    file = tmp_path / "settings.yaml"
    file.write_text(settings, "utf-8")
    page = load_settings(file, environ={}, cwd=tmp_path)
    assert page.llm.model_names() == {'a"b: {x}', "meta/llama:free", "ямб", "null"}
    assert advise([made("dead", errors=("X",))]).settings == ""


def cells(line: str) -> int:
    return len(re.sub(r"\\.", "", line).split("|"))


def test_every_table_is_whole_whatever_others_wrote(made: Make) -> None:
    nasty = "a | b\n\n## not a heading <script> `code` *bold* [link](http://x) \\| \x1b"
    spoilt = ModelTest(name="bad|model`", provider="p|q", attempts=(Attempt(model="m", outcome="X", message=nasty),))
    page = report(made("good", 0.1, 0.2, usd=0.001), spoilt, made("far", skip=nasty)).as_markdown()

    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({cells(line) for line in table}) == 1, table
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Test of models",
        "## Availability",
        "## Response times",
        "## Errors",
        "## Recommendations",
    ]
    assert "<script>" not in page
    assert "\x1b" not in page


def test_a_reader_finds_state_times_counts_and_cost(made: Make) -> None:
    page = report(
        made("good", 0.1, 0.2, 0.4, usd=0.001), made("flaky", 0.3, errors=("RateLimited",)), made("far", skip="no key")
    ).as_markdown()
    assert "**2 of 3 models work**; 1 could not be asked" in page
    assert "| `good` | local |  | works | 3 of 3 |  |" in page
    assert "| `flaky` | local |  | unsteady | 1 of 2 | RateLimited |" in page
    assert "| `far` | local |  | not asked |  | no key |" in page
    assert "| `good` | 0.10 s | 0.20 s | 0.40 s | 3 | 0 | $0.003 |  |" in page
    assert "| `flaky` | 0.30 s | 0.30 s | 0.30 s | 1 | 1 | ? |  |" in page
    assert "| `flaky` | RateLimited | 1 | flaky said RateLimited |" in page


def test_what_was_known_before_stands_beside_what_came_now(made: Make) -> None:
    known = ModelStatistics(
        model="good", provider="local", calls=7, successes=5, errors=2, errors_by_class={"RateLimited": 2}, p50=1.5, p95=3
    )
    page = report(made("good", 0.1, 0.2), known={"local:good": known}).as_markdown()
    assert "| `good` | 7 | 5 | 1.50 s | 0.10 s | 3.00 s | 0.20 s | RateLimited 2 |" in page


def test_json_tells_all_of_it(made: Make, tmp_path: Path) -> None:
    path = write_json(report(made("good", 0.1, usd=0.5), made("bad", errors=("X",))), tmp_path / "deep" / "er" / "report.json")
    data = json.loads(path.read_text("utf-8"))
    assert data["v"] == 1
    assert data["summary"] == {
        "models": 2,
        "working": 1,
        "failed": 1,
        "not_asked": 0,
        "calls": 2,
        "successes": 1,
        "failures": 1,
        "usd": 0.5,
    }
    good, bad = data["models"]
    assert (good["works"], good["response_time"], good["times"], good["usd"]) == (True, 0.1, [0.1], 0.5)
    assert (bad["works"], bad["usd"], bad["errors"]) == (False, None, {"X": {"count": 1, "message": "bad said X"}})
    assert data["recommendations"]["roles"]["primary"] == ["good"]
    assert yaml.safe_load(data["recommendations"]["settings"]) == {"llm": {"model_roles": {"primary": ["good"]}}}


def test_without_a_path_it_lies_here_under_its_date(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(write_markdown(report(made("good", 0.1)), None)) == "models-test-20231114-221320.md"
    assert (tmp_path / "models-test-20231114-221320.md").exists()


def test_a_place_where_nothing_can_be_written_is_named(made: Make, tmp_path: Path) -> None:
    with pytest.raises(FlowCraftError, match="cannot be written to"):
        write_markdown(report(made("good", 0.1)), tmp_path)


def test_a_report_of_nothing_says_what_to_do() -> None:
    page = report().as_markdown()
    assert "**0 of 0 models work**" in page
    assert "set a key in the environment" in page


def test_a_report_of_failures_only_recommends_nothing(made: Make) -> None:
    page = report(made("bad", errors=("X",))).as_markdown()
    assert "No model works" in page
    assert "```yaml" not in page


def test_a_test_tells_itself_as_plain_data(made: Make) -> None:
    data: dict[str, Any] = made("a", 0.3, 0.1, errors=("X", "X", "Y")).as_json()
    assert data["errors"] == {"X": {"count": 2, "message": "a said X"}, "Y": {"count": 1, "message": "a said Y"}}
    assert (data["calls"], data["successes"], data["failures"], data["response_time"], data["p95"]) == (5, 2, 3, 0.1, 0.3)
