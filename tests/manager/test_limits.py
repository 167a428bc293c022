"""Budgets, limits and the cache by settings and per call."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import BudgetExceeded, ChainExhausted
from flowcraft.llm.ports import Spending
from flowcraft.settings import Settings

pytestmark = pytest.mark.integration

ECHO = "providers: {echo: {models: {one: {price: {input: 1, output: 1}}, two: {}}}}\n"


def test_equal_questions_get_one_answer_as_long_as_settings_or_the_caller_say(managed: Any) -> None:
    async def main() -> list[bool]:
        async with managed(ECHO + "llm: {default_model: 'echo:one', cache: 1h}") as models:
            chats = [models.llm(), models.llm(), models.llm(cache=0), models.llm(cache="5m"), models.llm("echo:two")]
            return [(await chain.chat("hi")).cached for chain in chats]

    assert asyncio.run(main()) == [False, True, False, True, False]


def test_kept_answers_outlive_the_manager(managed: Any) -> None:
    text = ECHO + "llm: {default_model: 'echo:one'}"

    async def ask(**options: Any) -> bool:
        async with managed(text) as models:
            return (await models.llm(**options).chat("hi")).cached

    assert [asyncio.run(ask(cache="1h")) for _ in range(2)] == [False, True]
    assert not asyncio.run(ask())


def test_answers_of_another_server_are_not_given(managed: Any) -> None:
    async def ask(config: str) -> tuple[str, bool]:
        text = f"providers: {{echo: {{{config}}}}}\nllm: {{default_model: 'echo:one', cache: 1h}}"
        async with managed(text) as models:
            response = await models.llm().chat("hi")
            return response.text, response.cached

    here, there = "one: hi", "there one: hi"
    answers = [asyncio.run(ask(config)) for config in ("", "prefix: 'there '", "prefix: 'there ', api_key: k", "api_key: k")]
    assert answers == [(here, False), (there, False), (there, True), (here, True)]


@pytest.mark.parametrize("name", ["one", "echo:one", "quick", "echo"])
def test_a_limit_may_name_a_model_in_any_way(managed: Any, name: str) -> None:
    limits = f"limits: {{'{name}': {{requests_per_minute: 1}}}}"
    text = ECHO + f"llm: {{default_model: quick, aliases: {{quick: 'echo:one'}}, timeout: 30, deadline: 30, {limits}}}"

    async def main() -> None:
        async with managed(text) as models:
            await models.llm().chat("hi")
            with pytest.raises(ChainExhausted, match="is reached"):
                await models.llm("echo:one").chat("again")

    asyncio.run(main())


def test_a_budget_of_the_day_outlives_the_manager(managed: Any) -> None:
    text = ECHO + "llm: {default_model: 'echo:one', budget: {calls_per_day: 1}}"

    async def main() -> list[Spending]:
        async with managed(text) as models:
            await models.llm().chat("hi")
        async with managed(text) as models:
            with pytest.raises(BudgetExceeded, match="calls_per_day: 1 of 1 calls"):
                await models.llm().chat("again")
            return models.spending()

    (spent,) = asyncio.run(main())
    assert (spent.unit, spent.spent, spent.limit) == ("calls", 1.0, 1.0)


def test_the_simple_call_tells_of_the_budget(managed: Any) -> None:
    models = managed(ECHO + "llm: {default_model: 'echo:one', budget: {usd_per_day: 0}}")
    response = asyncio.run(models.generate_response("hi"))
    asyncio.run(models.aclose())
    assert not response.success
    assert response.error.startswith("usd_per_day: 0 of 0 USD spent or reserved today (UTC)")


def test_a_limit_of_a_name_that_nobody_has_is_warned_about() -> None:
    page = Settings(llm={"default_model": "gpt-5", "limits": {"gpt-6": {"concurrent": 1}, "openai": {}, "gpt-5": {}}})
    (warning,) = page.warnings
    assert "'gpt-6' is no provider, model or alias" in warning.message
    assert warning.hint == "did you mean 'gpt-5'?"


@pytest.mark.parametrize(
    ("llm", "told"),
    [
        ("budget: {calls_per_day: 10}", "its budget could not be looked up in time: the database is busy"),
        ("limits: {one: {requests_per_minute: 60}}", "its limits could not be looked up in time: the database is busy"),
        ("cache: 1h", ""),
    ],
)
def test_a_busy_database_keeps_nobody_past_the_deadline(managed: Any, tmp_path: Path, llm: str, told: str) -> None:
    text = ECHO + f"llm: {{default_model: 'echo:one', timeout: 4s, deadline: 4s, {llm}}}"

    async def main() -> None:
        async with managed(text) as models:
            assert (await models.llm().chat("hi")).text == "one: hi"
            with closing(sqlite3.connect(tmp_path / "calls.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                if told:
                    with pytest.raises(ChainExhausted, match=told):
                        await models.llm().chat("again")
                else:
                    assert (await models.llm().chat("again")).text == "one: again"
                other.execute("ROLLBACK")

    asyncio.run(main())  # the end of a loop waits for its threads
    models = managed(text)
    assert [(row.unit, row.spent) for row in models.spending()] == ([("calls", 1.0)] if "budget" in llm else [])
    asyncio.run(models.aclose())
