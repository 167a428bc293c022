"""Commands that a plugin adds to the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: ``flowcraft NAME``. ``call`` is a function with type hints, or its path ``module:function``."""

    name: str
    call: Callable[..., Any] | str
    help: str = ""
