import openai
import pytest

from flowcraft.testing import FaultServer, PooledContract
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.provider import OpenAIProvider

pytestmark = pytest.mark.integration


class TestOpenAI(PooledContract):
    drains = int(openai.__version__.partition(".")[0]) >= 3  # SDK 2 closes the connection behind a stream's [DONE]

    def provider(self, server: FaultServer) -> OpenAIProvider:
        return OpenAIProvider(OpenAIConfig(base_url=server.url, api_key="sk-test"), section="here")
