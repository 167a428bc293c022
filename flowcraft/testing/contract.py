"""The suite that every provider passes."""


class ProviderContract:
    """Subclass it in a plugin's tests."""
