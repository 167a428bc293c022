"""Judges that plugins offer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowcraft.discovery import discover
from flowcraft.plugin import ChatRequest, ChatResponse, Message

pytestmark = pytest.mark.integration

Install = Callable[..., None]

JUDGE = """
from flowcraft.plugin import Verdict, hookimpl

class Shortest:
    name = "{name}"
    async def compare(self, request, first, second):
        return Verdict(winner="first" if len(first.text) < len(second.text) else "second")

@hookimpl
def flowcraft_judges():
    return [{offered}]
"""


def state(plugins: object, name: str) -> tuple[str, str]:
    return next((state.state, state.error) for state in plugins.states() if state.name == name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("offered", ["Shortest", '"acme_judges:Shortest"'])
async def test_a_judge_is_offered_as_a_class_or_a_path(install: Install, offered: str) -> None:
    install("acme-judges", JUDGE.format(name="shortest", offered=offered), others=["acme"])
    judges = discover().judges()
    assert list(judges) == ["shortest"]
    request = ChatRequest(messages=(Message.user("?"),))
    verdict = await judges["shortest"].compare(request, ChatResponse(text="long"), ChatResponse(text="s"))
    assert verdict.winner == "second"


@pytest.mark.parametrize(
    ("offered", "error"),
    [
        ('"acme_judges:Missing"', "has no attribute 'Missing'"),
        ("int", "has no method compare"),
        ("type('Unnamed', (), {'compare': None.__class__})", "has no name"),
        ("type('Wants', (Shortest,), {'__init__': lambda self, more: None})", "missing 1 required positional argument"),
    ],
)
def test_what_is_no_judge_is_told_at_its_plugin_and_hides_no_other(install: Install, offered: str, error: str) -> None:
    install("acme-judges", JUDGE.format(name="shortest", offered=offered), others=["acme"])
    install("good-judges", JUDGE.format(name="good", offered="Shortest"), others=["good"])
    plugins = discover()
    assert list(plugins.judges()) == ["good"]
    failed, told = state(plugins, "acme")
    assert failed == "broken"
    assert error in told


def test_of_two_judges_with_one_name_the_first_stays(install: Install) -> None:
    for distribution, entry in (("a-judges", "a"), ("b-judges", "b")):
        install(distribution, JUDGE.format(name="same", offered="Shortest"), others=[entry])
    plugins = discover()
    assert type(plugins.judges()["same"]).__module__ == "a_judges"
    assert "judge 'same' is offered by plugin 'a' of a-judges" in state(plugins, "b")[1]
