"""The parts of FlowCraft: made when they are first used, once."""

from __future__ import annotations

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowcraft.app import FlowCraft
from flowcraft.app.parts import Part, Parts
from flowcraft.errors import StoreError
from flowcraft.settings import Settings

pytestmark = pytest.mark.unit


class Car(Parts):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    @Part
    def engine(self) -> object:
        """What drives."""
        time.sleep(0.01)  # long enough for the others to ask as well
        self.made.append("engine")
        return object()

    @Part
    def gears(self) -> tuple[object]:
        self.made.append("gears")
        return (self.engine,)

    @Part
    def radio(self) -> object:
        self.made.append("radio")
        raise OSError("no music")


def test_threads_that_ask_at_once_get_the_same_part():
    car, start = Car(), threading.Barrier(8)

    def asked(number: int) -> object:
        start.wait()
        return car.engine if number % 2 else car.gears[0]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(asked, range(8)))
    assert found == {car.engine}
    assert sorted(car.made) == ["engine", "gears"]


def test_a_part_that_cannot_be_made_is_tried_again():
    car = Car()
    for _ in range(2):
        with pytest.raises(OSError, match="no music"):
            car.radio  # noqa: B018
    assert car.made == ["radio", "radio"]
    assert not car.has("radio")


def test_the_class_tells_what_its_parts_are():
    assert inspect.getdoc(Car.engine) == "What drives."
    assert "the database that settings name" in (inspect.getdoc(FlowCraft.database) or "").lower()


async def test_what_was_not_used_is_not_made_to_be_closed(tmp_path: Path):
    async with FlowCraft(Settings(storage=f"sqlite:///{tmp_path}/flowcraft.db")) as flow:
        assert flow.check(_workflow(flow, tmp_path)) == []
    assert flow.has("manager")
    assert not flow.has("engine")
    assert not flow.has("database")


async def test_a_storage_that_is_none_is_told_where_it_is_used():
    async with FlowCraft(Settings(storage="sqlite://")) as flow:
        with pytest.raises(StoreError, match="names no file"):
            await flow.run("hello.yaml")


def _workflow(flow: FlowCraft, folder: Path):
    (folder / "hello.yaml").write_text("flowcraft: 1\nstages: {hello: {prompt: Say hello}}\n", encoding="utf-8")
    return flow.load(folder / "hello.yaml")
