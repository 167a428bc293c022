"""Secrets out of text: one pattern over every form that a secret may take on its way out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 6
"""Values shorter than this are not redacted: they would blank out ordinary text."""


def forms(secret: str) -> set[str]:
    """Return the exact, JSON-escaped, URL-quoted, repr, hex and base64 forms of ``secret``."""
    raw = secret.encode("utf-8", "surrogatepass")
    found = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(raw, safe=""),
        quote(raw, safe="/"),
        quote_plus(raw),
        quote_plus(raw, safe="/"),
        repr(secret)[1:-1],
        raw.hex(),
        raw.hex().upper(),
    }
    for offset in range(3):
        found |= _base64_forms(raw, offset)
    return {form for form in found if len(form) >= SHORTEST}


def _base64_forms(raw: bytes, offset: int) -> set[str]:
    # What stands before the secret shifts its base64 by 0, 1 or 2 bytes; the characters at both edges mix with the
    # neighbours' bits and are cut off.
    first = (0, 2, 3)[offset]
    cut = 1 if (offset + len(raw)) % 3 else 0
    found = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(b"\0" * offset + raw).decode().rstrip("=")
        found.add(text[first : len(text) - cut])
    return found


class Redactor:
    """Replaces every form of the given secrets by ``***``, in text and in JSON-like values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = frozenset(secret for secret in secrets if len(secret) >= SHORTEST)
        every = sorted({form for secret in self.secrets for form in forms(secret)}, key=len, reverse=True)
        self._forms = tuple(every)
        self._pattern = re.compile("|".join(map(re.escape, every))) if every else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def with_secrets(self, secrets: Iterable[str]) -> Redactor:
        """Return a redactor of these secrets besides one's own."""
        return Redactor(self.secrets | set(secrets))

    def text(self, text: str) -> str:
        """Return ``text`` without secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def value(self, value: Any) -> Any:
        """Return a JSON-like value without secrets, in keys and values alike; unchanged parts stay the same object."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def held_back(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a secret.

        A stream keeps these until the next piece has come.
        """
        longest = 0
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), longest, -1):
                if form.startswith(text[-length:]):
                    longest = length
                    break
        return longest
