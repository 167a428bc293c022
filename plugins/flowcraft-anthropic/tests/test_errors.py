"""The vendor's errors, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.plugin import (
    AuthenticationFailed,
    ChatRequest,
    ContentFiltered,
    ContextTooLong,
    InvalidRequest,
    Message,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Timeouts,
    collect,
)
from flowcraft.testing import Fault, FaultServer
from flowcraft.testing.dialect import dump

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))
BAD = "invalid_request_error"


def answered(status: int, kind: str, message: str, code: str = "", headers: Any = None) -> Fault:
    error = {"type": kind, "message": message, **({"details": {"error_code": code}} if code else {})}
    return Fault(status=status, raw=dump({"type": "error", "error": error, "request_id": "req_7"}), headers=headers or {})


@pytest.fixture
def failure(server: FaultServer, provider: Any) -> Any:
    async def fail(fault: Fault) -> ProviderError:
        server.script("model-a", fault)
        with pytest.raises(ProviderError) as told:
            await provider.chat("model-a", ASK)
        return told.value

    return fail


@pytest.mark.parametrize(
    ("status", "kind", "message", "code", "expected"),
    [
        (400, BAD, "max_tokens: must be positive", "", InvalidRequest),
        (400, BAD, "prompt is too long: 210000 tokens > 200000 maximum", "", ContextTooLong),
        (400, BAD, "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000", "", ContextTooLong),
        (400, BAD, "Output blocked by content filtering policy", "", ContentFiltered),
        (400, BAD, "Your credit balance is too low to access the Anthropic API.", "", QuotaExhausted),
        (400, BAD, "You have reached your specified API usage limits.", "", QuotaExhausted),
        (400, BAD, "this organization has been disabled", "organization_on_hold", AuthenticationFailed),
        (400, BAD, "This model does not support assistant message prefill.", "", InvalidRequest),
        (401, "authentication_error", "invalid x-api-key", "", AuthenticationFailed),
        (402, "billing_error", "check your payment details", "", QuotaExhausted),
        (403, "permission_error", "not allowed", "", AuthenticationFailed),
        (404, "not_found_error", "model: claude-2", "", ModelNotFound),
        (408, "timeout_error", "too slow", "", ProviderTimeout),
        (409, "conflict_error", "again", "", ProviderUnavailable),
        (413, "request_too_large", "Request exceeds the maximum size", "", ContextTooLong),
        (422, BAD, "no", "", InvalidRequest),
        (429, "rate_limit_error", "slow down", "", RateLimited),
        (429, "rate_limit_error", "slow down", "ramp_limit_exceeded", RateLimited),
        (429, "rate_limit_error", "spent", "contract_spend_limit_reached", QuotaExhausted),
        (429, "api_error", "odd", "", RateLimited),
        (500, "api_error", "the context length of it all", "", ProviderUnavailable),
        (504, "timeout_error", "use streaming", "", ProviderUnavailable),
        (529, "overloaded_error", "Overloaded", "", ProviderUnavailable),
    ],
)
async def test_code_type_status_and_message_decide(
    failure: Any, status: int, kind: str, message: str, code: str, expected: type[Exception]
) -> None:
    error = await failure(answered(status, kind, message, code))
    assert type(error) is expected
    assert str(error) == f"{message} (status {status})"
    assert error.details[0]["request_id"] == "req_7"
    assert error.details[0].get("code", "") == code
    assert error.billed is False


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, AuthenticationFailed), (413, ContextTooLong), (418, InvalidRequest), (502, ProviderUnavailable)],
)
async def test_a_status_without_the_vendors_body_is_enough(failure: Any, status: int, expected: type[Exception]) -> None:
    error = await failure(Fault(status=status, raw=b"<html>" + b"x" * 10_000))
    assert type(error) is expected
    assert len(str(error)) < 600


@pytest.mark.parametrize("status", [429, 529])
async def test_retry_after_is_told_for_limits_and_for_overload(failure: Any, status: int) -> None:
    assert (await failure(answered(status, "overloaded_error", "later", headers={"Retry-After": "7"}))).retry_after == 7.0


@pytest.mark.parametrize("headers", [{"Retry-After": "soon"}, {"Retry-After": "-1"}, {}])
async def test_a_pause_that_is_none_is_none(failure: Any, headers: dict[str, str]) -> None:
    assert (await failure(answered(429, "rate_limit_error", "later", headers=headers))).retry_after is None


async def test_a_404_without_a_reason_points_at_the_address(server: FaultServer, make: Any) -> None:
    with pytest.raises(ModelNotFound, match="base_url"):
        await make(base_url=f"{server.root}/elsewhere").chat("model-a", ASK)


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("overloaded_error", "Overloaded", ProviderUnavailable),
        ("api_error", "Internal server error", ProviderUnavailable),
        ("rate_limit_error", "slow down", RateLimited),
        ("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextTooLong),
        ("invalid_request_error", "no", InvalidRequest),
        ("brand_new_error", "what?", ProviderUnavailable),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_behind_a_status_of_200_counts_like_its_type(
    server: FaultServer, provider: Any, streamed: bool, kind: str, message: str, expected: type[Exception]
) -> None:
    body = dump({"type": "error", "error": {"type": kind, "message": message}})
    server.script("model-a", Fault(raw=b"event: error\ndata: " + body + b"\n\n" if streamed else body))
    answer = collect(provider.stream("model-a", ASK)) if streamed else provider.chat("model-a", ASK)
    with pytest.raises(ProviderError, match=message[:20]) as told:
        await answer
    assert type(told.value) is expected


async def test_an_error_event_that_is_no_json_is_told(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault(raw=b"event: error\ndata: upstream died\n\n"))
    with pytest.raises(ProviderUnavailable, match="upstream died"):
        [_ async for _ in provider.stream("model-a", ASK)]


async def test_our_error_has_the_vendors_behind_it(failure: Any) -> None:
    assert (await failure(Fault.failure())).__cause__ is not None


async def test_the_key_is_in_no_message(server: FaultServer, make: Any) -> None:
    with FaultServer(api_key="right") as locked, pytest.raises(AuthenticationFailed) as told:
        await make(base_url=locked.url, api_key="sk-ant-secret").chat("model-a", ASK)
    assert "sk-ant-secret" not in f"{told.value!r} {told.value.details} {told.value.__cause__}"


async def test_an_address_where_nobody_listens_is_named(make: Any) -> None:
    with pytest.raises(ProviderUnavailable, match="no connection"):
        await make(base_url="http://127.0.0.1:1").chat("model-a", ASK)


async def test_a_connection_that_is_not_taken_in_time_is_a_timeout(make: Any, unaccepted: str) -> None:
    with pytest.raises(ProviderTimeout, match="did not take the connection") as told:
        await make(Timeouts(connect=0.05), base_url=unaccepted).chat("model-a", ASK)
    assert told.value.billed is False


@pytest.mark.parametrize(
    ("fault", "billed"),
    [(Fault.of_status(408, "too slow"), False), (Fault.failure(500), False), (Fault.cut("chunk"), True)],
)
async def test_what_was_refused_is_not_billed_and_what_broke_off_is(failure: Any, fault: Fault, billed: bool) -> None:
    assert (await failure(fault)).billed is billed
