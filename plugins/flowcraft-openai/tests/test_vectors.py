"""Vectors of texts: what is asked, in which order they come, and what goes wrong in our words."""

from __future__ import annotations

import pytest

from flowcraft.plugin import ModelNotFound, ProviderUnavailable, RateLimited, Usage
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft_openai.provider import OpenAIProvider

pytestmark = pytest.mark.integration


async def test_vectors_come_in_the_order_of_the_texts(provider: OpenAIProvider, server: FaultServer) -> None:
    found = await provider.embed("vec", ["a", "b b", ""])
    assert [vector[1:3] for vector in found.vectors] == [(1, 0), (0, 2), (0, 0)]
    assert found.usage == Usage(input=3)
    assert server.requests[0].body == {"model": "vec", "input": ["a", "b b", ""], "encoding_format": "float"}
    assert server.requests[0].path == "/v1/embeddings"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.rate_limit(3), RateLimited),
        (Fault.failure(500), ProviderUnavailable),
        (Fault.failure(404), ModelNotFound),
        (Reply("", fields={"data": None}), ProviderUnavailable),
        (Reply("", fields={"data": [{"index": "x"}]}), ProviderUnavailable),
        (Reply("", fields={"error": {"message": "overloaded"}}), ProviderUnavailable),
    ],
)
async def test_what_goes_wrong_is_told_in_our_errors(
    provider: OpenAIProvider, server: FaultServer, fault: Fault | Reply, error: type[Exception]
) -> None:
    server.script("vec", fault)
    with pytest.raises(error):
        await provider.embed("vec", ["a"])
    assert server.count() == 1
