"""What a crew's thread hands to the loop of its stage, and that the first end of it is the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flowcraft.crewai.work import Ended, Work
from flowcraft.errors import RunFenced, StageFailed

pytestmark = pytest.mark.unit


def giving(value: Any) -> Callable[[], Awaitable[Any]]:
    async def give() -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return give


async def test_what_is_awaited_is_carried_out_on_the_loop_of_the_stage() -> None:
    work, here = Work(), threading.get_ident()

    async def where() -> int:
        return threading.get_ident()

    def crew() -> tuple[int, bool]:
        assert threading.get_ident() != here
        return work.do(where), threading.current_thread().daemon

    assert await work.run(crew, "crew") == (here, True)


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
async def test_the_first_end_counts_though_the_library_swallows_it_and_nothing_is_begun_behind_it(swallowed: Any) -> None:
    work, began = Work(), []

    async def later() -> None:
        began.append("later")

    def crew() -> str:
        for way in (giving(RunFenced("taken over")), later, giving(ValueError("another"))):
            with contextlib.suppress(swallowed):
                work.do(way)
        return "a text in place of the coworker's answer"

    with pytest.raises(RunFenced, match="taken over"):
        await work.run(crew, "crew")
    assert began == []


async def test_the_end_passes_whoever_takes_exceptions_for_answers() -> None:
    work, reached = Work(), []

    def crew() -> None:
        try:
            work.do(giving(RunFenced("taken over")))
        except Exception as error:  # as CrewAI does where work is handed to a coworker
            reached.append(error)

    with pytest.raises(RunFenced):
        await work.run(crew, "crew")
    assert reached == []


async def test_what_is_cancelled_from_within_fails_the_stage_and_does_not_cancel_it() -> None:
    work = Work()
    with pytest.raises(StageFailed, match="cancelled from within"):
        await work.run(lambda: work.do(giving(asyncio.CancelledError())), "crew")


async def test_who_is_cancelled_cancels_what_is_under_way_and_the_thread_ends() -> None:
    work, began, ended = Work(), asyncio.Event(), threading.Event()
    cancelled: list[str] = []

    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("hang")
            raise

    async def behind() -> None:
        cancelled.append("begun behind the end")

    def crew() -> None:
        try:
            work.do(hang)
        finally:
            with contextlib.suppress(Ended):
                work.do(behind)
            ended.set()

    running = asyncio.ensure_future(work.run(crew, "crew"))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(ended.wait, 30)
    assert cancelled == ["hang"]


async def test_a_caller_on_another_loop_waits_for_this_one_and_is_ended_too() -> None:
    work = Work()

    async def there() -> list[Any]:
        first = await work.do_async(giving(1))
        with pytest.raises(Ended):
            await work.do_async(giving(RunFenced("taken over")))
        with pytest.raises(Ended):
            await work.do_async(giving(2))
        return [first]

    with pytest.raises(RunFenced):
        await work.run(lambda: asyncio.run(there()), "crew")
