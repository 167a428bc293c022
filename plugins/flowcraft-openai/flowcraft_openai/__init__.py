"""OpenAI and every OpenAI-compatible endpoint as a provider."""
