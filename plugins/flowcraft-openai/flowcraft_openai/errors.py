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
    ModelNotLoaded,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from flowcraft.plugin.http import no_answer, retry_after, short, told_error

CODES: Mapping[str, type[ProviderError]] = {
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "arrearage": QuotaExhausted,
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "string_above_max_length": ContextTooLong,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "data_inspection_failed": ContentFiltered,
    "datainspectionfailed": ContentFiltered,
    "model_not_found": ModelNotFound,
    "model_not_loaded": ModelNotLoaded,
    "invalid_api_key": AuthenticationFailed,
    "authentication_error": AuthenticationFailed,
    "rate_limit_exceeded": RateLimited,
    "server_error": ProviderUnavailable,
}
"""By the ``code`` or ``type`` of an error's body, in lower case: more exact than its status."""

STATUSES: Mapping[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    404: ModelNotFound,
    408: ProviderTimeout,
    409: ProviderUnavailable,
    425: ProviderUnavailable,
    429: RateLimited,
    504: ProviderUnavailable,
}

MESSAGES: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = (
    (
        re.compile(
            r"context (length|window|size)|maximum context|too many tokens|prompt is too long|input is too long"
            r"|exceeds? the (available|model'?s) (context|maximum)|reduce the length",
            re.IGNORECASE,
        ),
        ContextTooLong,
    ),
    (
        re.compile(r"model\b.{0,120}\b(not found|does not exist|not exist)|not a valid model|no such model", re.IGNORECASE),
        ModelNotFound,
    ),
    (
        re.compile(r"content (management )?policy|inappropriate content|flagged (as|by)|moderation", re.IGNORECASE),
        ContentFiltered,
    ),
)
"""What servers without codes say in a 400, 403, 413 or 422."""

ASKS_OTHERWISE = (400, 403, 413, 422)


def translate(error: BaseException) -> ProviderError:
    """Return our error for whatever the SDK, its transport or a decoder raised."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return from_status(status, getattr(error, "body", None), headers)
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        return from_body(body)
    return no_answer(error)


def from_status(status: int, body: Any, headers: Mapping[str, str]) -> ProviderError:
    """Return the error of an answer with status 400 or above."""
    error = told_error(body)
    message = _message(error) or short(body if isinstance(body, str) else "") or "no reason given"
    kind = _kind(status, error, message)
    if status == 404 and "model" not in message.lower():
        message += "; the model is unknown, or base_url is not that of an OpenAI-compatible API"
    # What was refused is not billed, whichever class that makes it.
    told = f"{message} (status {status})"
    return kind(told, retry_after=retry_after(headers), details=_details(error), billed=False)


def from_body(error: Mapping[str, Any]) -> ProviderError:
    """Return the error that a gateway put into an answer or a stream of status 200."""
    error = told_error(error) or error
    code = error.get("code")
    status = int(code) if isinstance(code, int | str) and str(code).isdecimal() else 500
    message = _message(error) or "the server reported an error inside its answer"
    kind = _kind(status, error, message)
    return kind(message, details=_details(error))


def _kind(status: int, error: Mapping[str, Any], message: str) -> type[ProviderError]:
    for key in ("code", "type"):
        kind = CODES.get(str(error.get(key) or "").lower())
        if kind is not None and not (kind is ProviderUnavailable and status < 500):
            return kind
    if status in ASKS_OTHERWISE:
        for pattern, kind in MESSAGES:
            if pattern.search(message):
                return kind
    if status in STATUSES:
        return STATUSES[status]
    return ProviderUnavailable if status >= 500 else InvalidRequest


def _message(error: Mapping[str, Any]) -> str:
    said = error.get("message") or error.get("detail")
    if said is None:
        return ""
    # Gateways put what the vendor behind them said into metadata.raw.
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return short(f"{said}: {raw}" if isinstance(raw, str) else str(said))


def _details(error: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    if isinstance(error.get("detail"), list):  # FastAPI's form of 422
        return tuple(
            {"field": ".".join(map(str, item.get("loc", ()))), "message": str(item.get("msg", ""))}
            for item in error["detail"]
            if isinstance(item, Mapping)
        )
    told = {key: error[key] for key in ("code", "type", "param", "message") if error.get(key) is not None}
    if told and "param" in told:
        told["field"] = told["param"]
    return (told,) if told else ()
