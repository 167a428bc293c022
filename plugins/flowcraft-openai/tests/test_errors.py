"""The vendor's errors, one by one."""

from __future__ import annotations

from email.utils import formatdate
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
    ModelNotLoaded,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Timeouts,
)
from flowcraft.testing import Fault, FaultServer

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))


@pytest.fixture
def failure(server: FaultServer, provider: Any) -> Any:
    async def fail(fault: Fault) -> ProviderError:
        server.script("model-a", fault)
        with pytest.raises(ProviderError) as told:
            await provider.chat("model-a", ASK)
        return told.value

    return fail


@pytest.mark.parametrize(
    ("status", "message", "code", "kind"),
    [
        (400, "prompt is too long: 9 tokens > 8 maximum", None, ContextTooLong),
        (400, "the request exceeds the available context size", "exceed_context_size_error", ContextTooLong),
        (413, "Please reduce the length of the messages", None, ContextTooLong),
        (400, "foo/bar is not a valid model ID", None, ModelNotFound),
        (400, "model `x` not found", None, ModelNotFound),
        (400, "load it first", "model_not_loaded", ModelNotLoaded),
        (400, "Output data may contain inappropriate content.", "data_inspection_failed", ContentFiltered),
        (403, "Your input was flagged by moderation", None, ContentFiltered),
        (400, "Access denied", "Arrearage", QuotaExhausted),
        (400, "rate", "rate_limit_exceeded", RateLimited),
        (401, "no", None, AuthenticationFailed),
        (402, "no", None, QuotaExhausted),
        (404, "no model x", None, ModelNotFound),
        (405, "no", None, InvalidRequest),
        (408, "no", None, ProviderTimeout),
        (409, "no", None, ProviderUnavailable),
        (418, "no", None, InvalidRequest),
        (422, "no", None, InvalidRequest),
        (429, "no", None, RateLimited),
        (429, "no", "insufficient_quota", QuotaExhausted),
        (500, "the model's context length", None, ProviderUnavailable),
        (502, "no", None, ProviderUnavailable),
        (504, "no", None, ProviderUnavailable),
        (529, "no", None, ProviderUnavailable),
    ],
)
async def test_status_code_and_message_decide(
    failure: Any, status: int, message: str, code: Any, kind: type[Exception]
) -> None:
    error = await failure(Fault.of_status(status, message, code=code, type=""))
    assert type(error) is kind
    assert str(error) == f"{message} (status {status})"


async def test_details_say_what_the_vendor_said(failure: Any) -> None:
    error = await failure(Fault.bad_request())
    assert error.details[0]["field"] == "temperature"
    assert error.details[0]["code"] == "invalid_value"


async def test_details_of_a_validation_come_field_by_field(failure: Any) -> None:
    body = b'{"detail": [{"loc": ["body", "messages", 0], "msg": "field required"}]}'
    error = await failure(Fault(status=422, raw=body))
    assert type(error) is InvalidRequest
    assert error.details == ({"field": "body.messages.0", "message": "field required"},)


async def test_a_page_in_place_of_an_error_is_shortened(failure: Any) -> None:
    error = await failure(Fault(status=502, raw=b"<html>" + b"x" * 10_000))
    assert type(error) is ProviderUnavailable
    assert len(str(error)) < 600


async def test_a_404_without_a_reason_points_at_the_address(server: FaultServer, make: Any) -> None:
    with pytest.raises(ModelNotFound, match="base_url"):
        await make(base_url=f"{server.root}/elsewhere").chat("model-a", ASK)


async def test_what_the_vendor_behind_a_gateway_said_is_told(failure: Any) -> None:
    error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "upstream is busy"}}
    told = await failure(Fault(status=429, error=error))
    assert "upstream is busy" in str(told)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": formatdate(1_000_060, usegmt=True), "Date": formatdate(1_000_000, usegmt=True)}, 60.0),
        ({"Retry-After": formatdate(1_000_000, usegmt=True)}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_read_in_all_its_forms(failure: Any, headers: dict[str, str], seconds: float | None) -> None:
    error = await failure(Fault.of_status(429, "slow down", headers=headers))
    assert error.retry_after == seconds


async def test_retry_after_counts_for_a_busy_server_too(failure: Any) -> None:
    assert (await failure(Fault.failure(503, retry_after=3))).retry_after == 3.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [(402, QuotaExhausted), (429, RateLimited), (400, InvalidRequest), (502, ProviderUnavailable)],
)
async def test_an_error_inside_an_answer_counts_like_its_status(failure: Any, code: int, kind: type[Exception]) -> None:
    assert type(await failure(Fault.error_in_answer(code))) is kind


async def test_an_error_that_is_only_a_text_is_told(failure: Any) -> None:
    error = await failure(Fault(raw=b'{"error": "out of memory"}'))
    assert type(error) is ProviderUnavailable
    assert "out of memory" in str(error)


async def test_our_error_has_the_vendors_behind_it(failure: Any) -> None:
    assert (await failure(Fault.failure())).__cause__ is not None


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
