"""Work that another run has finished already: the one seam of fork and replay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowcraft.engine.ports import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A bit of work that this run has to do: its path, the two parts of its hash, and what people may read of ``what``.

    ``here`` says that only what was done at the very same path counts. ``part_of`` is the path of the go of a body that it is
    a part of, empty for what is no part.
    """

    path: str
    what: str
    code: str = ""
    asks: Mapping[str, Any] = field(default_factory=dict)
    here: bool = False
    part_of: str = ""


class Reuse(Protocol):
    """Where a run looks besides its own pieces."""

    def find(self, wanted: Wanted) -> Piece | None:
        """Return a piece whose state and result count as those of ``wanted``; its ``origin`` says where it is from.

        None: the work has to be done. Asked once, just before it would be done, on the loop's thread: quick, or from memory.
        Containers (``uses``, ``stages``, an element with ``until``) are not asked for: what lies in them is. Whatever error of
        ours is raised is the error of the stage.
        """
        ...


SET_BY_HAND = "set"
"""The origin of an output that somebody set in place of what its stage would give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a fork knows of the run it was made of, besides its pieces.

    ``answered`` holds model and provider whose answer counted, ``skipped`` what was skipped, both by path. ``given`` are
    outputs that were set by hand, by the names of stages, ``anew`` is the one that is done anew. ``same_inputs`` says that both
    runs were given the same.
    """

    run: str
    answered: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    given: Mapping[str, Any] = field(default_factory=dict)
    anew: str = ""
    same_inputs: bool = True

    @property
    def origin(self) -> str:
        """Where what stands at the same path comes from."""
        return f"fork:{self.run}"


def source_of(origin: str, path: str) -> str:
    """Return the path that a piece at ``path`` had where it was done: ``fork:RUN``, or ``fork:RUN:PATH`` of another one."""
    return origin.split(":", 2)[2] if origin.count(":") > 1 else path


def taken_from(origin: str) -> str:
    """Return the run whose work a piece is; empty where it was done in its own."""
    return origin.split(":", 2)[1] if ":" in origin else ""


_PLACES = re.compile(r"\[\d+\]|[#~]\d+")
_ENDS = re.compile(r"[/#~\[]")


def plain_path(path: str) -> str:
    """Return a path without elements, tries and goes: ``report#2/draft~1`` is a piece of ``report/draft``."""
    return _PLACES.sub("", path)


def around(path: str) -> list[str]:
    """Return ``path`` and all that it lies in: stages, their elements, tries and goes."""
    return [path, *(path[: mark.start()] for mark in _ENDS.finditer(path))]
