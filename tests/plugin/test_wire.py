"""Questions and answers as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.plugin import (
    Attempt,
    ChatRequest,
    ChatResponse,
    Choice,
    Image,
    Message,
    OutputSpec,
    Reasoning,
    ReasoningSpec,
    Scope,
    Text,
    TokenLogprob,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    content_hash,
    from_json,
    to_json,
)

pytestmark = pytest.mark.unit

REQUEST = ChatRequest(
    messages=(
        Message.system("Sei kurz. Будь краток. 简短 🎉"),
        Message(role="user", parts=(Text(text="what is this?"), Image(data=b"\x89PNG\x00", media_type="image/png"))),
        Message(
            role="assistant", parts=(Reasoning(text="hm", signature="s"), ToolCall(id="1", name="look", arguments='{"a":1}'))
        ),
        Message(role="tool", parts=(ToolResult(id="1", content="a cat"),)),
    ),
    tools=(ToolSpec(name="look", parameters={"type": "object", "properties": {"a": {"type": "integer"}}}),),
    output=OutputSpec(schema={"type": "object", "properties": {}}),
    temperature=0.0,
    stop=("a", "b"),
    reasoning=ReasoningSpec(effort="low"),
    extra={"min_p": 0.1, "type": "anything"},
)
RESPONSE = ChatResponse(
    text="a cat",
    parts=(Text(text="a cat"),),
    model="m",
    usage=Usage(input=3, output=2),
    logprobs=(TokenLogprob(token="a", logprob=-0.5, bytes=b"a", top=(TokenLogprob(token="b", logprob=-1.0),)),),
    choices=(Choice(text="a cat"),),
    attempts=(Attempt(model="m", outcome="RateLimited"), Attempt(model="m", usage=Usage(input=3))),
    parsed={"type": "cat", "legs": [4]},
)


@pytest.mark.parametrize(
    "value", [REQUEST, RESPONSE, *REQUEST.messages, Usage(), Text(text="")], ids=lambda value: type(value).__name__
)
def test_what_goes_out_comes_back(value):
    text = json.dumps(to_json(value), ensure_ascii=False)

    assert from_json(json.loads(text)) == value


def test_defaults_are_left_out():
    assert to_json(ChatResponse(text="hi")) == {"v": 1, "type": "response", "text": "hi"}


def test_scope_is_never_sent_and_never_hashed():
    within = REQUEST.within(run="r", deadline=1.0)

    assert within.scope != Scope()
    assert "scope" not in to_json(within)
    assert content_hash(within) == content_hash(REQUEST)


def test_hash_takes_media_by_content_and_leaves_metadata_out():
    picture = Image(data=b"\x89PNG\x00")

    assert content_hash(replace(REQUEST, metadata={"user": 7})) == content_hash(REQUEST)
    assert content_hash(picture) == content_hash(replace(picture))
    assert content_hash(picture) != content_hash(Image(data=b"other"))
    assert content_hash(replace(REQUEST, temperature=0.1)) != content_hash(REQUEST)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"type": "text", "text": "a"}, "version None"),
        ({"v": 2, "type": "text", "text": "a"}, "version 2"),
        ({"v": 1, "type": "os.system", "text": "a"}, "type 'os.system'"),
        ({"v": 1, "type": "text", "txt": "a"}, "no field 'txt'"),
        ({"v": 1, "type": "text"}, "text"),
        ({"v": 1, "type": "request", "messages": [], "scope": {}}, "no field 'scope'"),
    ],
)
def test_what_is_not_ours_is_refused(data, told):
    with pytest.raises(ValueError, match=told):
        from_json(data)


@given(st.text(), st.text())
def test_any_text_passes_and_different_texts_differ(one, other):
    assert from_json(to_json(Message.user(one))) == Message.user(one)
    assert (content_hash(Message.user(one)) == content_hash(Message.user(other))) == (one == other)
