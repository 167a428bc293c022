"""Parts of an object that are made, and what they are made of loaded, when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Parts:
    """Something that is made of parts. Any thread may be the first to use one: it is made once."""

    def __init__(self) -> None:
        self.making = threading.RLock()

    def has(self, name: str) -> bool:
        """Say whether a part was needed so far."""
        return name in vars(self)


class Part(Generic[T]):
    """A method as an attribute: called when it is first read, by whichever thread; from then on its result stands there."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, whole: None, kind: type[Parts]) -> Self: ...
    @overload
    def __get__(self, whole: Parts, kind: type[Parts]) -> T: ...
    def __get__(self, whole: Parts | None, kind: type[Parts]) -> Self | T:
        if whole is None:
            return self  # read of the class, by who looks at what it has
        with whole.making:
            kept = vars(whole)
            if self._name not in kept:
                kept[self._name] = self._make(whole)
            made: T = kept[self._name]
            return made
