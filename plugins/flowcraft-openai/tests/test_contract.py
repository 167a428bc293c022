import pytest

from flowcraft.testing import FaultServer, ProviderContract
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.provider import OpenAIProvider

pytestmark = pytest.mark.integration


class TestOpenAI(ProviderContract):
    def provider(self, server: FaultServer) -> OpenAIProvider:
        return OpenAIProvider(OpenAIConfig(base_url=server.url, api_key="sk-test"), section="here")
