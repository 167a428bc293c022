"""Order: a stage starts as soon as all that it depends on is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from flowcraft.workflow.schema import Stage

Settle = Callable[[Stage], Awaitable[bool]]


async def walk(stages: Mapping[str, Stage], settle: Settle) -> None:
    """Carry out all stages. ``settle`` returns whether what depends on the stage may start.

    The first exception that ``settle`` lets out cancels all others and is raised.
    """
    waits_for = {name: len(stage.depends) for name, stage in stages.items()}
    followers: dict[str, list[str]] = {name: [] for name in stages}
    for name, stage in stages.items():
        for before in stage.depends:
            followers[before].append(name)

    async with asyncio.TaskGroup() as group:

        async def carry(stage: Stage) -> None:
            following: Stage | None = stage
            while following is not None:
                name, following = following.name, None
                if not await settle(stages[name]):
                    return
                for follower in followers[name]:
                    waits_for[follower] -= 1
                    if waits_for[follower]:
                        continue
                    # The first one goes on in this task, which saves a chain of stages a task each.
                    if following is None:
                        following = stages[follower]
                    else:
                        group.create_task(carry(stages[follower]))

        for name, count in waits_for.items():
            if not count:
                group.create_task(carry(stages[name]))


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a task group, however deep it lies."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
