"""Best of two as users have it: from settings, over real connections, with plugins' judges, across processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.discovery import Plugins
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.manager import LLMManager
from flowcraft.plugin import Judge, Progress, TextDelta, Verdict
from flowcraft.settings import load_settings
from flowcraft.storage import Database, SqlVerdictStore
from flowcraft.testing import Fault, FaultServer
from flowcraft_openai.client import load

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def judging(favourite: str) -> Callable[[Any], str]:
    """A model that finds its favourite wherever it stands."""

    def answer(request: Any) -> str:
        first = re.search(
            r"\[ANSWER A \w+\]\\?n?(.*?)\[END OF ANSWER A", json.dumps(request.body, ensure_ascii=False), re.DOTALL
        )
        assert first is not None
        return json.dumps({"reason": "it rhymes", "winner": "A" if favourite in first[1] else "B"})

    return answer


def managed(server: FaultServer, folder: Path, *, llm: dict[str, Any] | None = None, **options: Any) -> LLMManager:
    load()  # the SDK takes a second, which is more than some tests give a model
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {
            "model_roles": {"primary": ["one:big"], "duplicate": ["two:large", "one:other", "two:judge"]},
            "retry_attempts": 0,
            **(llm or {}),
        },
        "providers": {
            "one": {
                "type": "openai",
                "base_url": server.url,
                "api_key": "sk-one-0123456789",
                "models": {"big": {"family": "x"}, "other": {"family": "x"}},
            },
            "two": {
                "type": "anthropic",
                "base_url": server.url.removesuffix("/v1"),
                "api_key": "sk-two-0123456789",
                "models": {"large": {"family": "y"}, "judge": {"family": "z"}},
            },
        },
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    return LLMManager(load_settings(file, environ={}, cwd=folder), **options)


@pytest.mark.parametrize("streamed", [False, True])
async def test_two_vendors_contest_and_a_third_family_judges(server: FaultServer, tmp_path: Path, streamed: bool) -> None:
    server.script("big", "Рифма: дождь")
    server.script("large", "Рифма: вождь 🙂")
    server.script("judge", judging("вождь"))
    async with managed(server, tmp_path, llm={"strategy": "best_of_two"}) as manager:
        chain = manager.llm(stage="poem", judge={"criteria": "The one that rhymes."})
        assert chain.notes == ()
        if streamed:
            async with chain.stream("Рифма?") as stream:
                events = [event async for event in stream]
            response = stream.response
            assert response is not None
            assert any(isinstance(event, Progress) for event in events)
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == response.text
        else:
            response = await chain.chat("Рифма?")
    assert (response.text, response.provider) == ("Рифма: вождь 🙂", "two")
    assert response.extra["strategy"]["judge"] == "two:judge"  # one:other is of a contestant's family
    assert response.extra["strategy"]["reasons"] == "it rhymes"
    assert sorted((attempt.role, attempt.model, attempt.outcome) for attempt in response.attempts) == [
        ("duplicate", "large", "ok"),
        ("judge", "judge", "ok"),
        ("judge", "judge", "ok"),
        ("primary", "big", "ok"),
    ]
    asked = [json.dumps(request.body, ensure_ascii=False) for request in server.requests if request.body["model"] == "judge"]
    assert len(asked) == 2
    assert all("The one that rhymes." in body and "Рифма: дождь" in body for body in asked)


async def test_on_a_real_connection_a_contestant_that_fails_leaves_the_other(server: FaultServer, tmp_path: Path) -> None:
    server.script("big", Fault.failure(502))
    server.script("large", "still here")
    async with managed(server, tmp_path) as manager:
        response = await manager.llm(strategy="best_of_two").chat("?")
    assert (response.text, response.extra["strategy"]["unjudged"]) == ("still here", "one:big failed: ProviderUnavailable")


async def test_cancelling_closes_both_connections(server: FaultServer, tmp_path: Path) -> None:
    server.script("big", Fault.hang())
    server.script("large", Fault.hang())
    async with managed(server, tmp_path) as manager:
        task = asyncio.create_task(manager.llm(strategy="best_of_two").chat("?"))
        await server.until(lambda: server.count() == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.abandoned() == 2)
    assert server.abandoned() == 2


async def test_the_managers_own_call_really_asks_two(server: FaultServer, tmp_path: Path) -> None:
    server.script("big", "a", "c")
    server.script("large", "b")
    server.script("judge", judging("b"))
    async with managed(server, tmp_path) as manager:
        single = await manager.generate_response("?", use_fastest=False)
        both = await manager.generate_response("?", use_parallel=True)
    assert (single.content, both.content, both.model_name, both.notes) == ("a", "b", "large", ())


# -- plugins' judges


class Longest(Judge):
    """Prefers the longer answer."""

    name = "longest"

    async def compare(self, request: Any, first: Any, second: Any) -> Verdict:
        return Verdict(winner="first" if len(first.text) > len(second.text) else "second", reasons="longer")


class Judging(Plugins):
    """The installed plugins, and one that offers a judge."""

    def judges(self) -> dict[str, Judge]:
        return {"longest": Longest()}


async def test_settings_may_name_a_plugins_judge(server: FaultServer, tmp_path: Path) -> None:
    from flowcraft.discovery import discover

    installed = discover()
    plugins = Judging(installed._plugins)
    server.script("big", "a longer answer")
    server.script("large", "short")
    llm = {"strategy": "best_of_two", "judge": {"model": "longest"}}
    async with managed(server, tmp_path, llm=llm, plugins=plugins) as manager:
        response = await manager.llm().chat("?")
    assert (response.text, response.extra["strategy"]["judge"]) == ("a longer answer", "longest")
    assert server.count("judge") == 0


# -- across processes

CHILD = """
import asyncio, json, sys
from pathlib import Path
from flowcraft import LLMManager
from flowcraft.plugin import ChatResponse, Provider
from flowcraft.settings import load_settings

class Two(Provider):
    name = "mine"
    async def chat(self, model, request):
        if model != "judge":
            return ChatResponse(text=f"from {model}")
        first = request.last_text.partition("[ANSWER B")[0]
        return ChatResponse(text=json.dumps({"reason": "", "winner": "A" if "from good" in first else "B"}))

async def main(folder, tasks):
    async with LLMManager(load_settings(folder / "settings.yaml", environ={}, cwd=folder)) as manager:
        manager.register_provider("mine", Two)
        responses = [await manager.llm(stage="s").chat(f"question {number}") for number in range(tasks)]
    print(json.dumps([[attempt.outcome for attempt in response.attempts] for response in responses]))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def child(folder: Path, tasks: int) -> list[list[str]]:
    """Do tasks in a process of its own and return the outcomes of their attempts."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(tasks)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_processes_share_verdicts_and_what_follows_from_them(tmp_path: Path) -> None:
    page = {
        "storage": f"sqlite:///{tmp_path}/calls.db",
        "llm": {
            "strategy": "best_of_two",
            "adaptive": {"explore": 0},
            "model_roles": {"primary": ["mine:good", "mine:bad"], "reserve": ["mine:judge"]},
        },
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(page))
    database = Database(f"sqlite:///{tmp_path}/calls.db")
    clock = itertools.count(0, 10)  # every look is a new one
    here = Statistics(verdicts=SqlVerdictStore(database), clock=lambda: next(clock))
    asyncio.run(here.refresh())
    assert here.ratings.rating("mine:good") is None

    assert child(tmp_path, 3) == [["ok"] * 4] * 3
    asyncio.run(here.refresh())
    assert (here.ratings.wins("mine:good", "s"), here.ratings.wins("mine:bad", "s")) == (3, 0)
    assert here.standing.out("mine:good", "mine:bad", stage="s", level=0.05) == ""

    # What this process judges counts there: three more losses, and the next process asks the loser no more.
    (_, known) = SqlVerdictStore(database).latest(1)
    (last,) = known
    for number in range(3):
        here.judged(type(last)(**{**{name: getattr(last, name) for name in last.__slots__}, "id": f"here-{number}"}))
    here.close()
    assert child(tmp_path, 1) == [["skipped", "ok"]]
    asyncio.run(here.refresh())
    assert here.ratings.wins("mine:good", "s") == 6
    database.close()
