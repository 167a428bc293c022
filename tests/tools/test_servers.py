"""MCP servers as real processes: by pipes and over HTTP, well, failing and dying."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from flowcraft.errors import ToolUnavailable
from flowcraft.tools.servers import Server, ServerSpec, ToolFailed

pytestmark = pytest.mark.integration

SCRIPT = str(Path(__file__).with_name("server.py"))


def by_pipes(**options) -> Server:
    return Server(ServerSpec(name="library", command=sys.executable, args=(SCRIPT,), **options))


async def tools_of(server: Server):
    return {made.spec.name: made for made in [server.tool(told) for told in await server.listed()]}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = by_pipes(env={"GIVEN": "yes"})
    yield made
    await made.aclose()


async def test_tools_are_told_with_their_schemas_and_effects(server):
    tools = await tools_of(server)

    assert {name: made.effect for name, made in tools.items()} == {
        "search": "read",
        "reserve": "write",
        "environment": "read",
        "fail": "external",
        "die": "read",
    }
    assert tools["search"].spec.description == "Search the library."
    assert tools["search"].spec.parameters["required"] == ["words"]
    assert all(made.untrusted for made in tools.values())


async def test_calls_go_to_one_process_that_ends_when_it_is_closed(server):
    tools = await tools_of(server)
    serving = [child for child in psutil.Process().children() if SCRIPT in child.cmdline()]
    answers = await asyncio.gather(*(tools["search"].call(words=str(number)) for number in range(5)))

    await server.aclose()

    assert answers == [f"found {number}" for number in range(5)]
    assert len(serving) == 1
    assert not serving[0].is_running()


async def test_environment_is_the_one_that_is_given(server, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OTHERS", "x")
    told = await (await tools_of(server))["environment"].call()

    assert "GIVEN" in told
    assert "SECRET_OF_OTHERS" not in told


async def test_tool_that_fails_says_so_and_the_server_goes_on(server):
    tools = await tools_of(server)

    with pytest.raises(ToolFailed, match="fail"):
        await tools["fail"].call()
    assert await tools["search"].call(words="x") == "found x"


async def test_server_that_dies_is_an_error_that_tells_what_it_said_last_and_is_started_anew(server):
    tools = await tools_of(server)

    with pytest.raises(ToolUnavailable, match=r"the MCP server 'library' has died; it said: (?s:.*)the roof fell in"):
        await tools["die"].call()
    assert await tools["search"].call(words="x") == "found x"


async def test_end_of_what_a_server_said_is_told_however_much_it_was(tmp_path):
    loud = "import sys; sys.stderr.write('word ' * 4_000_000 + 'the \u00e4nd'); sys.exit(1)"
    server = Server(ServerSpec(name="loud", command=sys.executable, args=("-c", loud), env={"PYTHONUTF8": "1"}))
    with pytest.raises(ToolUnavailable, match=r"it said: (?s:.*)word the \u00e4nd$") as raised:
        await server.listed()
    assert len(str(raised.value)) < 1_000


async def test_tool_is_as_the_server_told_of_it_last(server):
    (told,) = [told for told in await server.listed() if told["name"] == "search"]
    first, again = server.tool(told), server.tool(dict(told))
    other = server.tool(told | {"effect": "external"})
    assert first is again
    assert (first.effect, other.effect) == ("read", "external")


async def test_list_of_tools_without_end_is_an_error(server, monkeypatch):
    monkeypatch.setattr("flowcraft.tools.servers.MOST_LISTS", 0)
    with pytest.raises(ToolUnavailable, match="no end of its list"):
        await server.listed()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (ServerSpec(name="none", command="no-such-program"), "'none' cannot be reached: there is no program 'no-such-program'"),
        (ServerSpec(name="gone", url="http://127.0.0.1:9/mcp"), "'gone' cannot be reached: ConnectError"),
        (
            ServerSpec(name="broken", command=sys.executable, args=("-c", "raise SystemExit('no licence')")),
            "'broken' cannot be reached: .*; it said: no licence",
        ),
    ],
)
async def test_server_that_cannot_be_started_is_a_clear_error(spec, told):
    with pytest.raises(ToolUnavailable, match=told):
        await Server(spec).listed()


async def test_server_that_says_nothing_is_not_waited_for_when_it_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("flowcraft.tools.servers.START_SECONDS", 3600)
    os.mkfifo(tmp_path / "started")
    mute = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(3600)"
    server = Server(ServerSpec(name="mute", command=sys.executable, args=("-c", mute, str(tmp_path / "started"))))
    asked = asyncio.create_task(server.listed())
    await asyncio.to_thread((tmp_path / "started").read_text)  # until the process has opened it
    async with asyncio.timeout(60):
        await server.aclose()
    with pytest.raises(ToolUnavailable, match="'mute' was stopped while it started"):
        await asked


async def test_server_over_http():
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the process, which sets it too, may listen beside it
    place.bind(("127.0.0.1", 0))
    port = place.getsockname()[1]  # which nobody else gets while it is held
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, SCRIPT, str(port), stdout=quiet, stderr=quiet)
    server = Server(ServerSpec(name="web", url=f"http://127.0.0.1:{port}/mcp", headers={"X-Key": "1"}))
    try:
        tools = await reached(server)
        assert await tools["search"].call(words="x") == "found x"
        await server.aclose()
    finally:
        process.kill()
        await process.wait()
        place.close()


async def reached(server: Server):
    """Return the tools of a server that is just starting."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await tools_of(server)
            except ToolUnavailable:
                await asyncio.sleep(0.1)
