from collections.abc import Iterator

import pytest

from flowcraft.testing import FaultServer, PooledContract
from flowcraft.testing.messages import MessagesDialect
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.provider import AnthropicProvider

pytestmark = pytest.mark.integration


class TestAnthropic(PooledContract):
    def provider(self, server: FaultServer) -> AnthropicProvider:
        return AnthropicProvider(AnthropicConfig(base_url=server.url, api_key="sk-test"), section="here")

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        with FaultServer(dialect=MessagesDialect()) as server:
            yield server
