"""Python functions as tools: what a model is told of them, and what they are called with."""

from __future__ import annotations

import enum
import functools
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from flowcraft.plugin import Tool, ToolSpec, tool
from flowcraft.tools import Toolbox, function_tool

pytestmark = pytest.mark.unit


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: int = 0


def google(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather.

    As of now.

    Args:
        city: Where to look.
        unit: Of the temperature.
    """
    return f"{city} in {unit}"


def numpy(city: str, days: int = 1) -> str:
    """Tell the weather.

    Parameters
    ----------
    city : str
        Where to look.
    days : int
        How far ahead.
    """
    return f"{city} for {days}"


def parameters(function: Any) -> Any:
    return function_tool(function).spec.parameters


def test_schema_comes_from_hints_and_defaults_and_descriptions_from_the_docstring():
    made = function_tool(google)

    assert made.spec.name == "google"
    assert made.spec.description == "Tell the weather.\n\nAs of now."
    assert made.effect == "read"
    assert made.spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where to look."},
            "unit": {"type": "string", "enum": ["c", "f"], "default": "c", "description": "Of the temperature."},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_numpy_docstring_describes_the_arguments():
    assert parameters(numpy)["properties"]["days"] == {"type": "integer", "default": 1, "description": "How far ahead."}


def test_plain_docstring_is_the_description():
    def plain(text):
        """Count the letters of a text."""
        return len(text)

    assert function_tool(plain).spec.description == "Count the letters of a text."
    assert parameters(plain)["properties"] == {"text": {}}


def test_annotated_says_more_than_the_docstring():
    def search(
        words: Annotated[str, "What to look for"], most: Annotated[int, Field(ge=1, le=50, description="How many")] = 10
    ) -> None:
        """Search.

        Args:
            words: not this
        """

    assert parameters(search)["properties"] == {
        "words": {"type": "string", "description": "What to look for"},
        "most": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10, "description": "How many"},
    }


def test_models_enumerations_and_dates_arrive_as_what_the_hints_say():
    def paint(at: Point, colour: Colour, day: date, label: Optional[str] = None) -> Any:  # noqa: UP045 - this form, too
        return at, colour, day, label

    made = function_tool(paint)

    assert made.spec.parameters["required"] == ["at", "colour", "day"]
    assert made.call(at={"x": 1}, colour="blue", day="2026-01-02") == (Point(x=1), Colour.BLUE, date(2026, 1, 2), None)


def test_what_the_schema_cannot_say_is_checked_when_the_tool_is_called():
    def paint(day: date) -> None:
        """Paint."""

    with pytest.raises(ValueError, match="the arguments do not fit: day"):
        function_tool(paint).call(day="yesterday")


def test_arguments_may_have_any_name():
    def odd(schema: str, model_config: int, _hidden: bool, copy: str = "c") -> Any:
        return schema, model_config, _hidden, copy

    made = function_tool(odd)

    assert list(made.spec.parameters["properties"]) == ["schema", "model_config", "_hidden", "copy"]
    assert made.call(schema="s", model_config=1, _hidden=True) == ("s", 1, True, "c")


def test_function_that_takes_every_name_gets_every_name():
    def anything(first: int, **rest: int) -> Any:
        return first, rest

    made = function_tool(anything)

    assert made.spec.parameters["additionalProperties"] is not False
    assert made.call(first=1, second=2) == (1, {"second": 2})


def test_default_that_is_no_json_is_left_to_the_function():
    nothing = object()

    def odd(value: Any = nothing) -> bool:
        return value is nothing

    assert function_tool(odd).call() is True


@pytest.mark.parametrize(
    "function", [lambda *words: words, lambda text, /: text, len], ids=["any number", "by place", "compiled"]
)
def test_function_that_takes_by_place_cannot_be_a_tool(function):
    with pytest.raises(TypeError, match="by place"):
        function_tool(function, name="words")


def test_hint_that_no_schema_can_be_made_of_is_an_error_that_says_so():
    def odd(value: functools.partial) -> None:  # type: ignore[type-arg]  # any class that pydantic does not know
        """Take something odd."""

    with pytest.raises(TypeError, match="the function 'odd' cannot be a tool"):
        function_tool(odd)


def test_class_cannot_be_a_tool():
    with pytest.raises(TypeError, match="the class 'Point' cannot be a tool"):
        function_tool(Point)


def test_hint_that_names_nothing_is_an_error_that_says_so():
    def odd(value: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821 - as it happens to people
        """Take something that is not there."""

    with pytest.raises(TypeError, match="Missing"):
        function_tool(odd)


def test_notes_at_the_function_say_what_it_is_as_a_tool():
    @tool(name="send_mail", effect="external", description="Send a mail.")
    def send(to: str) -> str:
        return to

    made = function_tool(send)

    assert (made.spec.name, made.spec.description, made.effect) == ("send_mail", "Send a mail.", "external")
    assert send("me") == "me"


async def test_registered_functions_partials_and_objects_are_tools_sync_or_async():
    box = Toolbox(google)

    @box.tool
    async def later(number: int) -> int:
        return number + 1

    @box.tool(name="put", effect="write")
    def write(text: str) -> None:
        """Put it."""

    class Adder:
        """Adds."""

        async def __call__(self, first: int) -> int:
            return first + 1

    box.register("add", Adder(), "Add one")
    box.register("half", functools.partial(lambda number, by: number / by, by=2))
    box.add(Tool(spec=ToolSpec(name="plain"), call=lambda: 1))

    tools = {made.spec.name: made for made in box}
    assert list(tools) == ["google", "later", "put", "add", "half", "plain"]
    assert len(box) == 6
    assert "put" in box
    assert tools["put"].effect == "write"
    assert tools["add"].spec.description == "Add one"
    assert await tools["later"].call(number=1) == 2
    assert await tools["add"].call(first=1) == 2
    assert tools["half"].call(number=4) == 2
    assert await later(1) == 2


@pytest.mark.parametrize("name", ["", "two words", "имя", "x" * 65, "a.b"])
def test_name_that_no_vendor_takes_is_refused(name):
    with pytest.raises(ValueError, match="cannot name a tool"):
        Toolbox().register(name, lambda: 1)


def test_effect_that_a_function_tells_stays_where_it_is_registered_under_another_name():
    @tool(effect="external", untrusted=True)
    def fetch(url: str) -> str:
        return url

    box = Toolbox()
    box.register("get", fetch)
    box.register("look", fetch, effect="read")
    box.tool(name="pull")(fetch)
    assert [made.effect for made in box] == ["external", "read", "external"]


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tools are called 'google'"):
        Toolbox(google, google)
