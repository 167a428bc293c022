"""Work that another run has finished already: the one seam of fork and replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowcraft.engine.ports import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A bit of work that this run has to do: its path, the two parts of its hash, and what people may read of ``what``."""

    path: str
    what: str
    code: str = ""
    asks: Mapping[str, Any] = field(default_factory=dict)


class Reuse(Protocol):
    """Where a run looks besides its own pieces."""

    def find(self, wanted: Wanted) -> Piece | None:
        """Return a piece whose state and result count as those of ``wanted``; its ``origin`` says where it is from.

        None: the work has to be done. Asked once, just before it would be done, on the loop's thread: quick, or from memory.
        Containers (``uses``, ``stages``, an element with ``until``) are not asked for: what lies in them is. Whatever error of
        ours is raised is the error of the stage.
        """
        ...
