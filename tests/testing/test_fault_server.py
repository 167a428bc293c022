"""The server that the other tests rely on, asked byte by byte over bare sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import flowcraft.testing
from flowcraft.plugin import TokenLogprob, ToolCall, Usage
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def connect(server: FaultServer) -> socket.socket:
    host, _, port = server.root.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def request(path: str = "/v1/chat/completions", method: str = "POST", **fields: Any) -> bytes:
    told = {"model": "m", "messages": [{"role": "user", "content": "Привет"}], **fields}
    body = json.dumps(told).encode() if method == "POST" else b""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Test: 1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_head(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        if not piece:
            raise EOFError(data)
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, rest


def read_plain(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    status, headers, body = read_head(client)
    while len(body) < int(headers["content-length"]):
        body += client.recv(65536)
    return status, headers, json.loads(body)


def read_chunks(client: socket.socket) -> bytes:
    """Return the body of a chunked answer, as far as it came."""
    _, _, data = read_head(client)
    body = b""
    while True:
        while b"\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return body
            data += piece
        size, _, data = data.partition(b"\r\n")
        while len(data) < int(size, 16) + 2:
            piece = client.recv(65536)
            if not piece:
                return body + data
            data += piece
        if not int(size, 16):
            return body
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


def ask(server: FaultServer, **fields: Any) -> tuple[int, dict[str, str], Any]:
    with closing(connect(server)) as client:
        client.sendall(request(**fields))
        return read_plain(client)


def ask_stream(server: FaultServer, **fields: Any) -> list[Any]:
    with closing(connect(server)) as client:
        client.sendall(request(stream=True, **fields))
        body = read_chunks(client).decode()
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_model_without_a_script_echoes(server: FaultServer) -> None:
    status, headers, body = ask(server)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body["choices"][0]["message"]["content"] == "Привет"


def test_steps_come_in_their_order_and_the_last_repeats(server: FaultServer) -> None:
    server.script("m", Fault.rate_limit(2), Fault.failure(500), "hello")
    assert [ask(server)[0] for _ in range(4)] == [429, 500, 200, 200]
    assert server.count("m") == server.count() == 4
    assert server.count("other") == 0


def test_a_function_is_a_step(server: FaultServer) -> None:
    server.script("m", lambda got: Reply(f"{got.model} {got.body['seed']} {got.headers['x-test']} {got.stream}"))
    assert ask(server, seed=7)[2]["choices"][0]["message"]["content"] == "m 7 1 False"


def test_a_function_that_fails_is_told_to_the_client(server: FaultServer) -> None:
    server.script("m", lambda _: 1 / 0)
    status, _, body = ask(server)
    assert status == 500
    assert "ZeroDivisionError" in body["error"]["message"]


def test_what_is_no_step_is_refused(server: FaultServer) -> None:
    with pytest.raises(TypeError, match="a step is a text"):
        server.script("m", 5)  # type: ignore[arg-type]


def test_a_connection_is_kept_and_serves_requests_that_came_together(server: FaultServer) -> None:
    with closing(connect(server)) as client:
        client.sendall(request(seed=1) + request(seed=2))
        answers = b""
        while answers.count(b"chat.completion") < 2:
            answers += client.recv(65536)
    assert server.connections == 1
    assert [got.body["seed"] for got in server.requests] == [1, 2]
    assert {got.connection for got in server.requests} == {1}


def test_a_request_may_come_in_pieces(server: FaultServer) -> None:
    with closing(connect(server)) as client:
        for byte in request():
            client.sendall(bytes([byte]))
        assert read_plain(client)[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/v1/models", "GET", 200), ("/v1/other", "POST", 404), ("/chat/completions", "POST", 404)],
)
def test_paths(server: FaultServer, path: str, method: str, status: int) -> None:
    server.script("m", "hello")
    with closing(connect(server)) as client:
        client.sendall(request(path, method))
        assert read_plain(client)[0] == status


def test_models_are_those_with_a_script(server: FaultServer) -> None:
    server.script("b", "x")
    server.script("a", "x")
    with closing(connect(server)) as client:
        client.sendall(request("/v1/models", "GET"))
        assert [model["id"] for model in read_plain(client)[2]["data"]] == ["a", "b"]
    assert server.count() == 0


def test_a_body_that_is_no_object_is_refused(server: FaultServer) -> None:
    with closing(connect(server)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 4\r\n\r\noops")
        assert read_plain(client)[0] == 400


def test_another_key_is_refused() -> None:
    with FaultServer(api_key="right") as server:
        assert ask(server)[0] == 401


def test_a_stream_is_deltas_usage_and_done(server: FaultServer) -> None:
    server.script("m", Reply("one two", usage=Usage(input=9, cached=4, output=2, reasoning=1)))
    *chunks, done = ask_stream(server, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:3]] == ["one ", "two", None]
    assert chunks[2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[3]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert chunks[3]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 1


def test_a_stream_without_being_asked_tells_no_usage(server: FaultServer) -> None:
    assert all("usage" not in chunk for chunk in ask_stream(server)[:-1])


def test_a_reply_may_hold_everything(server: FaultServer) -> None:
    reply = Reply(
        tool_calls=(ToolCall(id="c", name="f", arguments='{"a": 1}'),),
        reasoning="hm",
        logprobs=(TokenLogprob(token="Hi", logprob=-0.5, bytes=b"Hi", top=(TokenLogprob(token="No", logprob=-9999.0),)),),
        refusal="no",
        choices=("other",),
    )
    server.script("m", reply)
    first, second = ask(server)[2]["choices"]
    assert first["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert first["message"]["reasoning_content"] == "hm"
    assert first["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] == -9999.0
    assert first["finish_reason"] == "tool_calls"
    assert second["message"]["content"] == "other"
    deltas = [choice["delta"] for chunk in ask_stream(server)[:-1] for choice in chunk["choices"]]
    arguments = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(arguments) == '{"a": 1}'
    assert len(arguments) > 2


@pytest.mark.parametrize(
    ("fault", "header", "value"),
    [
        (Fault.rate_limit(2), "retry-after", "2"),
        (Fault.rate_limit(1.5, form="ms"), "retry-after-ms", "1500"),
        (Fault.failure(503, retry_after=4), "retry-after", "4"),
    ],
)
def test_the_wait_is_told(server: FaultServer, fault: Fault, header: str, value: str) -> None:
    server.script("m", fault)
    assert ask(server)[1][header] == value


def test_the_wait_may_be_a_date(server: FaultServer) -> None:
    server.script("m", Fault.rate_limit(60, form="date"))
    assert ask(server)[1]["retry-after"].endswith("gmt")


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_before_the_headers_says_nothing(server: FaultServer, stream: bool) -> None:
    server.script("m", Fault.cut("connect"))
    with closing(connect(server)) as client:
        client.sendall(request(stream=stream))
        assert client.recv(100) == b""


def test_a_cut_in_a_plain_answer_leaves_half_of_it(server: FaultServer) -> None:
    server.script("m", Fault.cut("chunk"))
    with closing(connect(server)) as client:
        client.sendall(request())
        _, headers, body = read_head(client)
        while piece := client.recv(65536):
            body += piece
    assert 0 < len(body) < int(headers["content-length"])


def test_a_cut_after_the_first_chunk_leaves_one_event(server: FaultServer) -> None:
    server.script("m", Fault.cut("chunk", "one two"))
    with closing(connect(server)) as client:
        client.sendall(request(stream=True))
        body = read_chunks(client)
    assert body.count(b"data: ") == 1


TEXT = ("na", "ïve ", "👩\u200d👩", '"q"\n', "end")


def shown(body: bytes) -> tuple[str, bytes]:
    """Return the text of the whole events, and what came of the event that was cut."""
    *events, rest = body.split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events if event != b"data: [DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]), rest


@pytest.mark.parametrize("after", range(len("".join(TEXT).encode()) + 1))
def test_a_stream_is_cut_after_any_byte_of_its_text(server: FaultServer, after: int) -> None:
    server.script("m", Fault.cut_stream(after, Reply(chunks=TEXT)))
    with closing(connect(server)) as client:
        client.sendall(request(stream=True))
        text, rest = shown(read_chunks(client))
    whole = "".join(TEXT).encode()[:after]
    assert text == "".join(TEXT)[: len(text)]
    assert whole.startswith(text.encode())
    # What is behind the last whole chunk came as the beginning of an event.
    begun = json.dumps(whole[len(text.encode()) :].decode("utf-8", "ignore"), ensure_ascii=False)[1:-1]
    assert begun in rest.decode("utf-8", "ignore")
    assert bool(rest) is (len(whole) > len(text.encode()))
    assert b"finish_reason" not in rest


@pytest.mark.parametrize("begun", ["", "n", "naïve ", "naïve 👩", 'naïve 👩\u200d👩"q"\nend'])
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_goes_on_from_the_beginning_of_its_answer(server: FaultServer, begun: str, stream: bool) -> None:
    server.script("m", Reply(chunks=TEXT, prefill=True))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": begun}]
    with closing(connect(server)) as client:
        client.sendall(request(stream=stream, messages=messages))
        text = shown(read_chunks(client))[0] if stream else read_plain(client)[2]["choices"][0]["message"]["content"]
    assert begun + text == "".join(TEXT)


def test_a_beginning_that_is_none_of_the_answer_is_an_error(server: FaultServer) -> None:
    server.script("m", Reply("hello", prefill=True))
    with closing(connect(server)) as client:
        client.sendall(request(messages=[{"role": "assistant", "content": "Hallo"}]))
        status, _, body = read_plain(client)
    assert (status, "does not begin with 'Hallo'" in body["error"]["message"]) == (500, True)


def test_only_a_model_that_is_said_to_goes_on(server: FaultServer) -> None:
    server.script("m", "hello")
    with closing(connect(server)) as client:
        client.sendall(request(messages=[{"role": "assistant", "content": "hel"}]))
        assert read_plain(client)[2]["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_inside_a_character_leaves_no_whole_character(server: FaultServer, stream: bool) -> None:
    server.script("m", Fault.cut("character", "naïve"))
    with closing(connect(server)) as client:
        client.sendall(request(stream=stream))
        if stream:
            body = read_chunks(client)
        else:
            body = read_head(client)[2]
            while piece := client.recv(65536):
                body += piece
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        body.decode()


@pytest.mark.parametrize("place", ["connect", "headers", "chunk", "character"])
def test_a_hang_goes_on_when_it_is_released(server: FaultServer, place: Any) -> None:
    server.script("m", Fault.hang(place, "naïve"))
    with closing(connect(server)) as client:
        client.sendall(request())
        server.wait_until(lambda: server.running("m") == 1)
        if place != "connect":
            _, headers, body = read_head(client)
        server.release()
        if place == "connect":
            _, headers, body = read_head(client)
        while len(body) < int(headers["content-length"]):
            body += client.recv(65536)
        server.wait_until(lambda: not server.running())
    assert json.loads(body)["choices"][0]["message"]["content"] == "naïve"
    assert server.abandoned() == 0


def test_a_client_that_leaves_is_counted(server: FaultServer) -> None:
    server.script("m", Fault.hang())
    with closing(connect(server)) as client:
        client.sendall(request())
        server.wait_until(lambda: server.running() == server.peak == 1)
    server.wait_until(lambda: server.abandoned("m") == 1 and not server.open_connections)
    assert (server.running(), server.abandoned("other")) == (0, 0)


def test_a_client_that_leaves_after_its_answer_is_not(server: FaultServer) -> None:
    ask(server)
    server.wait_until(lambda: not server.open_connections)
    assert server.abandoned() == 0


def test_connections_can_be_closed_from_this_side(server: FaultServer) -> None:
    with closing(connect(server)) as client:
        client.sendall(request())
        read_plain(client)
        server.close_connections()
        assert server.open_connections == 0
        assert client.recv(1) == b""


def test_waiting_for_what_never_comes_ends(server: FaultServer) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        server.wait_until(lambda: server.count() > 0, timeout=0.01)


def test_a_server_that_does_not_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        FaultServer().release()


def test_stopping_ends_the_thread_and_everything_that_hangs() -> None:
    server = FaultServer().start()
    server.script("m", Fault.hang())
    with closing(connect(server)) as client:
        client.sendall(request())
        server.wait_until(lambda: server.running() == 1)
        server.stop()
        server.stop()
        assert "fault-server" not in {thread.name for thread in threading.enumerate()}


def test_slow_tokens_and_broken_json_are_replies() -> None:
    assert Fault.slow("a b", 0.5) == Reply("a b", delay=0.5)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(Fault.broken_json().text)


def test_a_slow_answer_comes(server: FaultServer) -> None:
    server.script("m", Fault.slow("a b", 0.001))
    assert ask(server)[2]["choices"][0]["message"]["content"] == "a b"
    assert ask_stream(server)[-1] == "[DONE]"


def test_an_error_in_a_stream_comes_where_it_was_put(server: FaultServer) -> None:
    server.script("m", Fault.error_in_answer(429, "busy", at="chunk"))
    chunk, error = ask_stream(server)
    assert "choices" in chunk
    assert error == {"error": {"code": 429, "message": "busy"}}
    server.script("m", Fault.error_in_answer())
    assert [*ask_stream(server)] == [{"error": {"code": 502, "message": "the upstream failed"}}]


def test_nothing_but_the_contract_needs_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from flowcraft.testing import Chunks, FakeProvider, Fault, FaultServer, Hang, Reply\n"
        "print(any(name.partition('.')[0] in ('aiohttp', 'openai', 'httpx') for name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_every_public_name_is_there() -> None:
    assert all(getattr(flowcraft.testing, name) for name in flowcraft.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        flowcraft.testing.Nothing  # noqa: B018
