"""Settings: one typed page that knows where each of its values came from."""

from flowcraft.settings.chains import Choice, tier_names
from flowcraft.settings.environment import PRESET_KEYS
from flowcraft.settings.explain import Entry
from flowcraft.settings.load import load_settings
from flowcraft.settings.models import LLMSettings, ModelFacts, Params, ProviderSettings, Roles, Tier
from flowcraft.settings.page import Settings

__all__ = [
    "PRESET_KEYS",
    "Choice",
    "Entry",
    "LLMSettings",
    "ModelFacts",
    "Params",
    "ProviderSettings",
    "Roles",
    "Settings",
    "Tier",
    "load_settings",
    "tier_names",
]
