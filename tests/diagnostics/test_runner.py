"""Every configured model is asked, directly and bounded, by a real connection; what came of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowcraft import LLMTestRunner
from flowcraft.diagnostics import ModelTest
from flowcraft.errors import ChainExhausted, FlowCraftError, SettingsError
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, Provider
from flowcraft.testing import Fault, FaultServer
from flowcraft.testing.clock import run_virtual

pytestmark = pytest.mark.integration

MANY = """
llm:
  retry_attempts: 3
  model_roles: {primary: [good, slow], duplicate: [broken], reserve: [refused], fallback: [far]}
  aliases: {quick: good}
providers:
  local: {type: openai, base_url: URL, models: {good: {price: {input: 1, output: 2}}, unnamed: {}}}
  cloud: {type: openai, base_url: URL, api_key: "${CLOUD_KEY}", models: {far: {}}}
"""


@pytest.fixture
def many(server: FaultServer) -> FaultServer:
    server.script("good", "ready")
    server.script("unnamed", "ready")
    server.script("slow", Fault.slow("a b c", 0.05))
    server.script("broken", Fault.failure(500))
    server.script("refused", Fault.unauthorized())
    server.script("hanging", Fault.hang())
    return server


def state(test: ModelTest) -> str:
    return "works" if test.works else test.skip or next(iter(test.errors))


async def test_each_model_is_asked_once_and_for_itself(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        runner = LLMTestRunner(manager)
        results = await runner.test_all_models()

    assert {test.name: state(test) for test in results} == {
        "good": "works",
        "slow": "works",
        "broken": "ProviderUnavailable",
        "refused": "AuthenticationFailed",
        "far": "CLOUD_KEY is not set",
        "unnamed": "works",
    }
    assert [test.name for test in results] == ["good", "slow", "broken", "refused", "far", "unnamed"]
    assert [many.count(test.name) for test in results] == [1, 1, 1, 1, 0, 1], "nothing is tried again, and nobody stands in"
    assert runner.get_working_models() == ["good", "slow", "unnamed"]
    assert sorted(name for name, _ in runner.get_fastest_models()) == ["good", "slow", "unnamed"]
    by_name = {test.name: test for test in results}
    assert by_name["good"].usd is not None
    assert by_name["slow"].usd is None
    assert by_name["broken"].message("ProviderUnavailable") == "the server failed (status 500)"


async def test_a_model_that_hangs_is_given_up_in_time(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        (test,) = await LLMTestRunner(manager).test_all_models(models=["hanging"], timeout=2)
    assert (test.works, test.message("ProviderTimeout")) == (False, "no answer within 2 s")
    await many.until(lambda: many.abandoned("hanging") == many.count("hanging"))


async def test_a_provider_without_models_is_asked_for_its_first(managed: Any, server: FaultServer) -> None:
    server.script("tiny", "ready")
    async with managed("providers: {bare: {type: openai, base_url: URL}}") as manager:
        runner = LLMTestRunner(manager)
        (test,) = await runner.test_all_models()
    assert (test.name, test.model, test.works) == ("bare", "tiny", True)
    assert runner.get_advice().roles["primary"] == ("bare",)


async def test_rounds_ask_again_until_the_breaker_opens(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        results = {
            test.name: test for test in await LLMTestRunner(manager).test_all_models(models=["good", "refused"], rounds=4)
        }

    assert (results["good"].successes, results["good"].steady, many.count("good")) == (4, True, 4)
    refused = results["refused"]
    assert (refused.failures, many.count("refused")) == (1, 1)
    assert refused.trouble == "AuthenticationFailed; 3 not asked: its breaker was open"


async def test_a_model_that_asks_to_wait_is_waited_for(managed: Any, server: FaultServer) -> None:
    server.script("good", Fault.rate_limit(0.05), "ready")
    async with managed(MANY) as manager:
        (test,) = await LLMTestRunner(manager).test_all_models(models=["good"])
    assert (test.works, test.steady, dict(test.errors)) == (True, False, {"RateLimited": 1})


async def test_what_an_open_breaker_keeps_from_being_asked_says_so(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        with pytest.raises(ChainExhausted):
            await manager.alone("refused").chat("hi")
        (test,) = await LLMTestRunner(manager).test_all_models(models=["refused"])
    assert test.skip.startswith("its breaker is open")
    assert test.calls == ()


TWENTY = f"""
providers:
  local: {{type: openai, base_url: URL, models: {{{", ".join(f"m{number}: {{}}" for number in range(20))}}}}}
"""


async def test_twenty_models_never_have_more_than_the_bound_under_way(managed: Any, server: FaultServer) -> None:
    for number in range(20):
        server.script(f"m{number}", Fault.hang(reply="ready"))
    async with managed(TWENTY) as manager:
        task = asyncio.ensure_future(LLMTestRunner(manager).test_all_models(concurrency=3))
        for asked in (3, 6, 9, 12, 15, 18, 20):
            await server.until(partial(_count_is, server, asked))
            assert server.running() == (3 if asked < 20 else 2)
            server.release()
        results = await task
    assert len(results) == 20
    assert all(test.works for test in results)
    assert server.peak == 3


def _count_is(server: FaultServer, count: int) -> bool:
    return server.count() == count


async def test_one_provider_can_be_spared_while_another_is_asked(managed: Any, server: FaultServer) -> None:
    with FaultServer() as other:
        for number in range(4):
            server.script(f"a{number}", Fault.slow("a b", 0.02))
            other.script(f"b{number}", Fault.slow("a b", 0.02))
        text = """
        providers:
          one: {type: openai, base_url: URL, models: {a0: {}, a1: {}, a2: {}, a3: {}}}
          two: {type: openai, base_url: OTHER, models: {b0: {}, b1: {}, b2: {}, b3: {}}}
        """
        async with managed(text.replace("OTHER", other.url)) as manager:
            results = await LLMTestRunner(manager).test_all_models(per_provider=1)
        assert len(results) == 8
        assert all(test.works for test in results)
        assert (server.peak, other.peak) == (1, 1)


async def test_cancelled_it_lets_go_of_everything_and_keeps_what_it_has(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        runner = LLMTestRunner(manager)
        before = asyncio.all_tasks()
        through = asyncio.Event()
        test = runner.test_all_models(models=["good", "hanging"], on_result=lambda test: through.set())
        task = asyncio.ensure_future(test)
        await through.wait()
        await many.until(lambda: many.running("hanging") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await many.until(lambda: many.abandoned("hanging") == many.count("hanging"))
        assert asyncio.all_tasks() == before
    assert runner.get_working_models() == ["good"]
    assert runner.as_json()["summary"]["models"] == 1


async def test_each_result_is_told_at_once_and_a_listener_that_fails_ends_it(managed: Any, many: FaultServer) -> None:
    seen: list[str] = []

    def listen(test: ModelTest) -> None:
        seen.append(test.name)
        if test.name == "good":
            raise LookupError("enough")

    async with managed(MANY) as manager:
        with pytest.raises(LookupError, match="enough"):
            await LLMTestRunner(manager).test_all_models(models=["hanging", "good"], on_result=listen)
        await many.until(lambda: many.abandoned("hanging") == many.count("hanging"))
    assert seen == ["good"]


async def test_the_calls_count_in_statistics_under_their_own_task(managed: Any, many: FaultServer) -> None:
    async with managed(MANY) as manager:
        runner = LLMTestRunner(manager)
        await runner.test_all_models(models=["good"], rounds=2)
        (row,) = manager.statistics(task="test")
        assert (row.model, row.calls) == ("good", 2)
        assert runner.as_json()["models"][0]["statistics"] is None, "what was known when it began"
        await runner.test_all_models(models=["good"])
        assert runner.as_json()["models"][0]["statistics"]["calls"] == 2


async def test_a_budget_that_is_spent_is_told_and_kept(managed: Any, many: FaultServer) -> None:
    async with managed(MANY.replace("retry_attempts: 3", "budget: {calls_per_day: 1}")) as manager:
        runner = LLMTestRunner(manager)
        results = await runner.test_all_models(models=["good", "unnamed"], rounds=2, concurrency=1)
    assert [test.works for test in results] == [True, False]
    assert results[0].trouble.startswith("calls_per_day: 1 of 1 calls spent")
    assert results[1].skip.startswith("calls_per_day: 1 of 1 calls spent")
    assert many.count() == 1
    assert [test.roles for test in results] == [("primary",), ()]
    assert runner.get_advice().drop == {}, "what nobody asked has not failed"
    assert "Not tested, so nothing is said of them: unnamed." in runner.get_advice().notes


async def test_no_secret_leaves_it(managed: Any, server: FaultServer, tmp_path: Path) -> None:
    key = "sk-live-abcdef0123456789"
    server.script("far", Fault(status=400, error={"message": f"your key {key} is bad"}), f"I have seen {key}")
    text = "providers: {cloud: {type: openai, base_url: URL, api_key: '${CLOUD_KEY}', models: {far: {}}}}"
    async with managed(text, CLOUD_KEY=key) as manager:
        runner = LLMTestRunner(manager)
        (test,) = await runner.test_all_models(f"my key is {key}", rounds=2)
        page = runner.export_results_markdown(tmp_path / "report.md").read_text("utf-8")
        data = runner.export_results_json(tmp_path / "report.json").read_text("utf-8")
    assert (test.successes, test.failures) == (1, 1)
    assert key not in page + data + repr(test)
    assert "***" in page


async def test_a_plugin_that_is_missing_keeps_its_models_out_and_no_other(managed: Any, many: FaultServer) -> None:
    async with managed(MANY.replace("cloud: {type: openai", "cloud: {type: elsewhere").replace("${CLOUD_KEY}", "k")) as manager:
        results = {test.name: test for test in await LLMTestRunner(manager).test_all_models()}
    assert results["good"].works
    assert "no installed plugin offers the provider 'elsewhere'" in results["far"].skip


async def test_settings_that_are_wrong_are_told_with_their_place(managed: Any, many: FaultServer) -> None:
    text = MANY.replace("cloud: {type: openai,", "cloud: {type: openai, colour: red,")
    async with managed(text, CLOUD_KEY="k") as manager:
        with pytest.raises(SettingsError, match=r"settings.yaml:8:\d+: unknown key 'colour'"):
            await LLMTestRunner(manager).test_all_models()
    assert many.count() == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"rounds": 0}, "rounds"), ({"concurrency": 0}, "concurrency"), ({"per_provider": 0}, "per_provider")],
)
async def test_bounds_that_make_no_sense_are_refused(managed: Any, wrong: dict[str, int], told: str) -> None:
    async with managed(MANY) as manager:
        with pytest.raises(ValueError, match=told):
            await LLMTestRunner(manager).test_all_models(**wrong)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
async def test_a_timeout_is_a_number_of_seconds(managed: Any, timeout: float) -> None:
    async with managed(MANY) as manager:
        with pytest.raises(ValueError, match="timeout"):
            await LLMTestRunner(manager).test_all_models(timeout=timeout)


async def test_a_name_that_nobody_knows_is_refused_with_the_one_that_was_meant(managed: Any) -> None:
    text = "llm: {default_provider: gone, aliases: {quick: 'local:good'}}\n" + MANY[MANY.index("providers") :]
    async with managed(text) as manager:
        with pytest.raises(SettingsError, match="there is no model 'quik'; did you mean 'quick'"):
            await LLMTestRunner(manager).test_all_models(models=["quik"])


async def test_before_any_test_there_is_nothing_to_export(managed: Any) -> None:
    async with managed(MANY) as manager:
        runner = LLMTestRunner(manager)
        assert (runner.get_working_models(), runner.get_fastest_models(), runner.results) == ([], [], ())
        with pytest.raises(FlowCraftError, match="nothing was tested yet"):
            runner.export_results_markdown()


async def test_nothing_configured_is_no_model_to_test(managed: Any) -> None:
    async with managed("{}") as manager:
        runner = LLMTestRunner(manager)
        assert await runner.test_all_models() == []
        assert await runner.test_all_models(models=["offline"]) == []
        assert runner.as_json()["summary"]["models"] == 0


def test_the_usage_of_the_code_agent_works_as_it_stands(managed: Any, many: FaultServer, tmp_path: Path) -> None:
    """Its names and meaning: with a manager, with none, from one asyncio.run after the other."""
    managed(MANY)
    file = tmp_path / "settings.yaml"
    file.write_text(file.read_text("utf-8") + f"storage: sqlite:///{tmp_path}/calls.db\n", "utf-8")

    for given in (LLMManager(file), str(file)):
        runner = LLMTestRunner(given)
        results = asyncio.run(runner.test_all_models())
        output_path = runner.export_results_markdown(tmp_path / "out" / "results.md")
        assert len(results) == 6
        assert "# Test of models" in output_path.read_text("utf-8")
        assert "good" in runner.get_working_models()
        for model_name, response_time in runner.get_fastest_models()[:5]:
            assert isinstance(model_name, str)
            assert response_time > 0
        if isinstance(given, LLMManager):
            asyncio.run(given.aclose())


class Timed(Provider):
    """Answers in as many seconds as its model's name says."""

    name = "timed"

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        await asyncio.sleep(float(model))
        return ChatResponse(text="ready")


def test_the_fastest_come_first_by_the_median_of_their_seconds(tmp_path: Path) -> None:
    async def main() -> tuple[LLMTestRunner, float]:
        settings = tmp_path / "settings.yaml"
        providers = "providers: {timed: {models: {'3': {}, '1': {}, '2': {}}}}"
        settings.write_text(f"storage: sqlite:///{tmp_path}/calls.db\n{providers}", "utf-8")
        async with LLMManager(settings) as manager:
            manager.register_provider("timed", Timed)
            runner = LLMTestRunner(manager)
            began = asyncio.get_running_loop().time()
            await runner.test_all_models(rounds=3, concurrency=8)
            return runner, asyncio.get_running_loop().time() - began

    runner, seconds = run_virtual(main())
    assert runner.get_fastest_models() == [("1", 1.0), ("2", 2.0), ("3", 3.0)]
    assert seconds == 9, "all at once; the rounds of one model one after the other"


def named(manager: LLMManager) -> dict[str, tuple[str, ...]]:
    return {model.name: model.roles for model in manager.configured()}


async def test_all_that_settings_name_is_found_once(managed: Callable[..., LLMManager]) -> None:
    text = """
    llm:
      cheap_model: small
      expensive_model: local:large
      model_roles: {primary: [small, medium], fallback: ["local:medium"]}
      tiers: {review: [large, other]}
      aliases: {quick: small}
      structured: {repair_model: mender}
      default_provider: local
    providers:
      local: {type: openai, base_url: URL, models: {listed: {}}}
      bare: {type: openai, base_url: URL}
    """
    async with managed(text) as manager:
        assert named(manager) == {
            "small": ("cheap", "primary"),
            "medium": ("primary", "fallback"),
            "large": ("expensive", "review"),
            "other": ("review",),
            "mender": ("repair",),
            "listed": (),
            "bare": (),
        }
        assert [model.name for model in manager.configured(["review", "quick"])] == ["large", "other", "small"]
