"""One place where a vendor's error, a broken answer or a lost connection becomes one of ours."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from flowcraft.plugin import (
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)

KINDS: Mapping[str, type[ProviderError]] = {
    "authentication_error": AuthenticationFailed,
    "permission_error": AuthenticationFailed,
    "organization_on_hold": AuthenticationFailed,
    "invalid_api_key": AuthenticationFailed,
    "billing_error": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "insufficient_quota": QuotaExhausted,
    "not_found_error": ModelNotFound,
    "model_not_found": ModelNotFound,
    "request_too_large": ContextTooLong,
    "context_length_exceeded": ContextTooLong,
    "rate_limit_error": RateLimited,
    "overloaded_error": ProviderUnavailable,
    "api_error": ProviderUnavailable,
    "timeout_error": ProviderUnavailable,
    "conflict_error": ProviderUnavailable,
    "content_filter": ContentFiltered,
}
"""By ``details.error_code``, ``code`` or ``type`` of an error's body: more exact than its status."""

STATUSES: Mapping[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    404: ModelNotFound,
    408: ProviderTimeout,
    409: ProviderUnavailable,
    413: ContextTooLong,
    425: ProviderUnavailable,
    429: RateLimited,
}

MESSAGES: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = (
    (re.compile(r"credit balance is too low|reached your specified .{0,40}usage limits", re.IGNORECASE), QuotaExhausted),
    (
        re.compile(
            r"prompt is too long|input is too long|exceeds? (the )?context|context (length|window|size|limit)|maximum context"
            r"|too many tokens",
            re.IGNORECASE,
        ),
        ContextTooLong,
    ),
    (re.compile(r"content filtering policy|content policy|flagged (as|by)|moderation", re.IGNORECASE), ContentFiltered),
    (re.compile(r"model\b.{0,120}\b(not found|does not exist|not exist)|not a valid model", re.IGNORECASE), ModelNotFound),
)
"""What only the words of an ``invalid_request_error`` say."""

ASKS_OTHERWISE = (400, 413, 422)


def translate(error: BaseException) -> ProviderError:
    """Return our error for whatever the SDK, its transport or a decoder raised."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return from_status(status, getattr(error, "body", None), headers)
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        return from_body(body)
    if isinstance(status, int):
        return ProviderUnavailable(f"the server reported an error inside its stream: {_short(str(body or error))}")
    causes = _causes(error)
    broken = next((cause for cause in causes if isinstance(cause, ValueError)), None)
    if isinstance(broken, UnicodeEncodeError):
        return InvalidRequest("the request holds text that is no valid Unicode (a lone surrogate)")
    if broken is not None:
        return ProviderUnavailable(_no_answer(broken))
    return _lost(causes)


def _no_answer(broken: ValueError) -> str:
    if not isinstance(broken, json.JSONDecodeError):
        return f"the server sent something that is no valid answer: {_short(str(broken))}"
    return f"the server answered with {f'no JSON: {_short(broken.doc, 80)}' if broken.doc.strip() else 'an empty body'}"


def _lost(causes: Sequence[BaseException]) -> ProviderError:
    import aiohttp  # heavy; loaded with the SDK by now

    # The SDK's transport calls every lost connection a time-out; the error beneath tells the two apart.
    beneath = next((cause for cause in causes if isinstance(cause, aiohttp.ClientError)), causes[-1])
    if isinstance(beneath, TimeoutError):
        return ProviderTimeout("the server did not take the connection in time")
    if isinstance(beneath, aiohttp.ClientPayloadError):
        return ProviderUnavailable("the connection was cut in the middle of the answer")
    if isinstance(beneath, aiohttp.ServerDisconnectedError):
        return ProviderUnavailable("the server closed the connection before it answered")
    return ProviderUnavailable(f"no connection: {_short(str(beneath)) or type(beneath).__name__}")


def from_status(status: int, body: Any, headers: Mapping[str, str]) -> ProviderError:
    """Return the error of an answer with status 400 or above."""
    error = _inner(body)
    message = _message(error) or _short(body if isinstance(body, str) else "") or "no reason given"
    kind = _kind(status, error, message)
    if status == 404 and "model" not in message.lower():
        message += "; the model is unknown, or base_url is not that of a Messages API"
    return kind(f"{message} (status {status})", retry_after=retry_after(headers), details=_details(error, body))


def from_body(body: Mapping[str, Any]) -> ProviderError:
    """Return the error that came inside an answer or a stream of status 200."""
    error = _inner(body) or body
    message = _message(error) or "the server reported an error inside its answer"
    status = 400 if error.get("type") == "invalid_request_error" else 500
    return _kind(status, error, message)(message, details=_details(error, body))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, told in milliseconds, seconds or as a date."""
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is not None or not told:
        return seconds
    until = _date(told)
    if until is None:
        return None
    # The server's own clock, where it tells it: ours may be off by minutes.
    now = _date(headers.get("date", "")) or time.time()
    return max(0.0, until - now)


def _kind(status: int, error: Mapping[str, Any], message: str) -> type[ProviderError]:
    for name in (_error_code(error), error.get("code"), error.get("type")):
        kind = KINDS.get(str(name or "").lower())
        if kind is not None and not (kind is ProviderUnavailable and status < 500):
            return kind
    if status in ASKS_OTHERWISE:
        for pattern, kind in MESSAGES:
            if pattern.search(message):
                return kind
    if status in STATUSES:
        return STATUSES[status]
    return ProviderUnavailable if status >= 500 else InvalidRequest


def _error_code(error: Mapping[str, Any]) -> Any:
    details = error.get("details")
    return details.get("error_code") if isinstance(details, Mapping) else None


def _inner(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error", body)
    if isinstance(error, Mapping):
        return error
    return {"message": str(error)}


def _message(error: Mapping[str, Any]) -> str:
    said = error.get("message") or error.get("detail")
    return "" if said is None else _short(str(said))


def _details(error: Mapping[str, Any], body: Any) -> tuple[Mapping[str, Any], ...]:
    told = {key: error[key] for key in ("code", "type", "message") if error.get(key) is not None}
    if _error_code(error) is not None:
        told["code"] = _error_code(error)
    if isinstance(body, Mapping) and body.get("request_id"):
        told["request_id"] = body["request_id"]
    return (told,) if told else ()


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


def _short(text: str, limit: int = 500) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
