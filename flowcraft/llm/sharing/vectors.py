"""Vectors that are kept for a while: who asks for the same text of the same model again is given them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowcraft.llm.sharing.answers import AnswerBook
from flowcraft.plugin.vectors import Vector


@dataclass(frozen=True, slots=True)
class KeptVector:
    """A vector, and who made it."""

    vector: Vector
    model: str
    provider: str


class VectorBook:
    """Finds and keeps the vectors of texts by the models of one chain, for so many seconds."""

    def __init__(self, book: AnswerBook, chain: str, seconds: float) -> None:
        self._book = book
        self._chain = chain
        self._seconds = seconds

    async def find(self, texts: Iterable[str]) -> dict[str, KeptVector]:
        """Return what is kept of these texts; what was damaged counts as none."""
        keys = {self._key(text): text for text in texts}
        kept = await self._book.find_all(list(keys), self._seconds)
        found = {keys[key]: _decoded(text) for key, text in kept.items()}
        return {text: vector for text, vector in found.items() if vector is not None}

    async def keep(self, vectors: Mapping[str, KeptVector]) -> None:
        """Keep the vectors of texts."""
        await self._book.keep_all({self._key(text): _encoded(kept) for text, kept in vectors.items()}, self._seconds)

    def _key(self, text: str) -> str:
        return f"vector:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}:{self._chain}"


def _encoded(kept: KeptVector) -> str:
    """Return a vector as JSON text, its numbers bit by bit: as decimals they take twice the room."""
    numbers = array("d", kept.vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    packed = base64.b64encode(numbers.tobytes()).decode("ascii")
    return json.dumps({"model": kept.model, "provider": kept.provider, "vector": packed})


def _decoded(text: str) -> KeptVector | None:
    try:
        data = json.loads(text)
        numbers = array("d")
        numbers.frombytes(base64.b64decode(data["vector"], validate=True))
        model, provider = data["model"], data["provider"]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return None
    if sys.byteorder == "big":
        numbers.byteswap()
    whole = bool(numbers) and all(map(math.isfinite, numbers))
    return (
        KeptVector(tuple(numbers), model, provider) if whole and isinstance(model, str) and isinstance(provider, str) else None
    )
