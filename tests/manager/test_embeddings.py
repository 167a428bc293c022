"""Vectors of texts through the manager: batches, usage, fallback to the same model elsewhere, records, budgets."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from flowcraft.errors import BudgetExceeded, ChainExhausted, LLMError, SettingsError, StoreError
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatResponse, Provider, Usage, Vectors
from flowcraft.settings import load_settings
from flowcraft.storage import SqlAnswers
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def by(page: dict[str, Any], folder: Any) -> LLMManager:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(page), "utf-8")
    return LLMManager(load_settings(file, environ={}, cwd=folder))


def manager(server: FaultServer, tmp_path: Any, **llm: Any) -> LLMManager:
    section = {"type": "openai", "base_url": server.url}
    page = {
        "storage": f"sqlite:///{tmp_path}/calls.db",
        "providers": {
            "here": {**section, "models": {"vec": {"price": {"input": 2, "output": 0}}, "other": {}}},
            "there": {**section, "models": {"vec": {"price": {"input": 2, "output": 0}}}},
        },
        "llm": {"retry_attempts": 0, **llm},
    }
    return by(page, tmp_path)


async def test_texts_become_vectors_in_their_order_by_batches(server: FaultServer, tmp_path: Any) -> None:
    async with manager(server, tmp_path, embeddings={"model": "vec", "batch": 2}) as made:
        found = await made.embedder().embed(["a", "b b", "c", "ab", ""])
    assert [vector[1:4] for vector in found.vectors] == [(1, 0, 0), (0, 2, 0), (0, 0, 1), (1, 1, 0), (0, 0, 0)]
    assert [request.body["input"] for request in server.requests] == [["a", "b b"], ["c", "ab"], [""]]
    assert {request.path for request in server.requests} == {"/v1/embeddings"}
    assert (found.model, found.provider, found.usage) == ("vec", "here", Usage(input=5))
    assert found.usd == pytest.approx(5 * 2 / 1_000_000)
    assert [(attempt.outcome, attempt.role) for attempt in found.attempts] == [("ok", "embedding")] * 3


async def test_no_texts_ask_nobody(server: FaultServer, tmp_path: Any) -> None:
    async with manager(server, tmp_path) as made:
        assert (await made.embedder("vec").embed([])).vectors == ()
        with pytest.raises(ValueError, match="list of strings"):
            await made.embedder("vec").embed("text")
    assert server.requests == []


async def test_the_same_model_elsewhere_stands_in_and_no_other(server: FaultServer, tmp_path: Any) -> None:
    server.script("vec", Fault.failure(500), Reply(""))
    async with manager(server, tmp_path) as made:
        found = await made.embedder("here:vec").embed(["a"])
        assert found.provider == "there"
        assert [(attempt.provider, attempt.outcome) for attempt in found.attempts] == [
            ("here", "ProviderUnavailable"),
            ("there", "ok"),
        ]
        server.script("vec", Fault.failure(500))
        with pytest.raises(ChainExhausted) as caught:
            await made.embedder("vec").embed(["b"])
    assert {attempt.model for attempt in caught.value.attempts} == {"vec"}
    assert server.count("other") == 0


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ([], "without any vector"),
        ([{"index": 0}], "cannot be read"),
        ([{"index": 0, "embedding": []}], "empty"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}], "2 vectors came for 1"),
    ],
)
async def test_vectors_that_are_none_are_a_failure(server: FaultServer, tmp_path: Any, data: Any, wrong: str) -> None:
    server.script("vec", Reply("", fields={"data": data}))
    async with manager(server, tmp_path) as made:
        with pytest.raises(LLMError, match=wrong):
            await made.embedder("vec").embed(["a"])


async def test_budget_holds(server: FaultServer, tmp_path: Any) -> None:
    async with manager(server, tmp_path, budget={"usd_per_day": 0.0000001}) as made:
        with pytest.raises(BudgetExceeded):
            await made.embedder("vec").embed(["many words " * 1_000])
    assert server.requests == []


async def test_offline_tells_which_words_are_shared(tmp_path: Any) -> None:
    async with by({"storage": f"sqlite:///{tmp_path}/calls.db"}, tmp_path) as made:
        found = await made.embedder().embed(["The cat sat.", "the CAT sat", "a dog ran", "", "?"])
        again = await made.embedder("offline").embed(["The cat sat."])
    cat, same, dog, empty, mark = found.vectors
    assert cat == same == again.vectors[0]
    assert sum(a * b for a, b in zip(cat, dog, strict=True)) < 0.5
    assert [math.hypot(*vector) for vector in found.vectors] == pytest.approx([1.0] * 5)
    assert empty == mark
    assert (found.offline, found.usd, len(cat)) == (True, 0.0, 256)


async def test_model_for_vectors_is_named_where_models_are(server: FaultServer, tmp_path: Any) -> None:
    async with manager(server, tmp_path, model_roles={"primary": ["other"]}) as made:
        with pytest.raises(SettingsError, match=r"llm\.embeddings\.model"):
            made.embedder()


async def test_provider_that_makes_no_vectors_says_so(tmp_path: Any) -> None:
    class Speaker(Provider):
        name = "speaker"

        async def chat(self, model: str, request: Any) -> ChatResponse:
            raise AssertionError("nobody asked for an answer")

    class Short(Speaker):
        async def embed(self, model: str, texts: Any) -> Vectors:
            return Vectors(vectors=((math.nan,),) * len(texts))

    async with by({"storage": f"sqlite:///{tmp_path}/calls.db"}, tmp_path) as made:
        made.register_provider("speaker", Speaker)
        made.register_provider("short", Short)
        with pytest.raises(LLMError, match="no vectors"):
            await made.embedder("speaker:a").embed(["a"])
        with pytest.raises(LLMError, match="no number"):
            await made.embedder("short:a").embed(["a"])


async def test_the_same_text_of_the_same_model_is_asked_once_in_whatever_process(server: FaultServer, tmp_path: Any) -> None:
    async with manager(server, tmp_path, embeddings={"batch": 2}) as made:
        first = await made.embedder("vec").embed(["a", "b", "a", "c"])
    async with manager(server, tmp_path, embeddings={"batch": 2}) as made:
        again = await made.embedder("vec").embed(["c", "a"])
        more = await made.embedder("vec").embed(["d", "a"])
        other = await made.embedder("other").embed(["a"])
    assert [(request.body["model"], request.body["input"]) for request in server.requests] == [
        ("vec", ["a", "b"]),
        ("vec", ["c"]),
        ("vec", ["d"]),
        ("other", ["a"]),
    ]
    assert again.vectors == (first.vectors[3], first.vectors[0])
    assert first.vectors[2] == first.vectors[0] == other.vectors[0] == more.vectors[1]
    assert (again.model, again.provider, again.usd, again.usage, again.attempts) == ("vec", "here", 0.0, Usage(), ())
    assert (more.usage, len(more.attempts)) == (Usage(input=1), 1)


@pytest.mark.parametrize("cache", [0, None])
async def test_without_a_cache_each_text_is_asked_each_time(server: FaultServer, tmp_path: Any, cache: Any) -> None:
    async with manager(server, tmp_path, embeddings={"cache": cache}) as made:
        await made.embedder("vec").embed(["a", "a"])
        await made.embedder("vec").embed(["a"])
    assert [request.body["input"] for request in server.requests] == [["a", "a"], ["a"]]


async def test_kept_vectors_that_do_not_go_with_new_ones_or_were_damaged_are_made_anew(
    server: FaultServer, tmp_path: Any
) -> None:
    numbers = [{"index": 0, "embedding": [1.0, 2.0]}]
    server.script("vec", Reply("", fields={"data": numbers}), Reply(""))
    async with manager(server, tmp_path) as made:
        assert (await made.embedder("vec").embed(["a"])).vectors == ((1.0, 2.0),)
        longer = await made.embedder("vec").embed(["a", "b"])
    assert {len(vector) for vector in longer.vectors} != {2}
    assert len({len(vector) for vector in longer.vectors}) == 1
    assert [request.body["input"] for request in server.requests] == [["a"], ["b"], ["a", "b"]]
    for damage in ("{", "null", '{"vector": "AAAA", "model": "vec", "provider": "here"}', '{"vector": "", "model": 1}'):
        with sqlite3.connect(tmp_path / "calls.db") as connection:
            connection.execute("UPDATE answers SET response = ?", (damage,))
        async with manager(server, tmp_path) as made:
            assert (await made.embedder("vec").embed(["a", "b"])).vectors == longer.vectors


async def test_a_database_that_is_locked_keeps_nobody_from_vectors(
    server: FaultServer, tmp_path: Any, monkeypatch: Any
) -> None:
    def locked(*given: Any) -> None:
        raise StoreError("the database is locked")

    async with manager(server, tmp_path) as made:
        monkeypatch.setattr(SqlAnswers, "get", locked)
        monkeypatch.setattr(SqlAnswers, "put", locked)
        assert len((await made.embedder("vec").embed(["a"])).vectors) == 1
        assert len((await made.embedder("vec").embed(["a"])).vectors) == 1
    assert len(server.requests) == 2
