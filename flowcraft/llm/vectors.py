"""What a provider makes of a request for vectors, as a response: the policies need not know the difference."""

from __future__ import annotations

import math
from typing import Final

from flowcraft.errors import CapabilityMissing, InvalidOutput
from flowcraft.plugin.chat import ChatRequest, ChatResponse
from flowcraft.plugin.provider import Provider
from flowcraft.plugin.vectors import Vector

VECTORS: Final = "vectors"
"""Where a response that was asked for vectors holds them."""


async def embedded(provider: Provider, model: str, request: ChatRequest) -> ChatResponse:
    """Return the vectors of a request's messages as a response. Raises CapabilityMissing, InvalidOutput."""
    if type(provider).embed is Provider.embed:
        raise CapabilityMissing("this provider makes no vectors of texts")
    found = await provider.embed(model, [message.text for message in request.messages])
    vectors: tuple[Vector, ...] = tuple(tuple(vector) for vector in found.vectors)
    if len(vectors) != len(request.messages):
        raise InvalidOutput(f"{len(vectors)} vectors came for {len(request.messages)} texts", usage=found.usage)
    if any(not vector or not all(map(math.isfinite, vector)) for vector in vectors):
        raise InvalidOutput("a vector is empty, or holds what is no number", usage=found.usage)
    return ChatResponse(usage=found.usage, usd=found.usd, offline=found.offline, extra={VECTORS: vectors})
