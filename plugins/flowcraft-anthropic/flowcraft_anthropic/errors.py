"""One place where a vendor's error, a broken answer or a lost connection becomes one of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from flowcraft.plugin.http import no_answer, retry_after, short, told_error

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
        return ProviderUnavailable(f"the server reported an error inside its stream: {short(str(body or error))}")
    return no_answer(error)


def from_status(status: int, body: Any, headers: Mapping[str, str]) -> ProviderError:
    """Return the error of an answer with status 400 or above."""
    error = told_error(body)
    message = _message(error) or short(body if isinstance(body, str) else "") or "no reason given"
    kind = _kind(status, error, message)
    if status == 404 and "model" not in message.lower():
        message += "; the model is unknown, or base_url is not that of a Messages API"
    # What was refused is not billed, whichever class that makes it.
    told = f"{message} (status {status})"
    return kind(told, retry_after=retry_after(headers), details=_details(error, body), billed=False)


def from_body(body: Mapping[str, Any]) -> ProviderError:
    """Return the error that came inside an answer or a stream of status 200."""
    error = told_error(body) or body
    message = _message(error) or "the server reported an error inside its answer"
    status = 400 if error.get("type") == "invalid_request_error" else 500
    return _kind(status, error, message)(message, details=_details(error, body))


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


def _message(error: Mapping[str, Any]) -> str:
    said = error.get("message") or error.get("detail")
    return "" if said is None else short(str(said))


def _details(error: Mapping[str, Any], body: Any) -> tuple[Mapping[str, Any], ...]:
    told = {key: error[key] for key in ("code", "type", "message") if error.get(key) is not None}
    if _error_code(error) is not None:
        told["code"] = _error_code(error)
    if isinstance(body, Mapping) and body.get("request_id"):
        told["request_id"] = body["request_id"]
    return (told,) if told else ()
