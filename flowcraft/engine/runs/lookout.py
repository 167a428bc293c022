"""Who looks after a run: found out of what the database tells, look by look, and never of a clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowcraft.engine.lease import Vigil, is_gone
from flowcraft.engine.ports import Loose, RunStore


class Lookout:
    """Finds the runs that nobody looks after any more, those of ``owner`` left out."""

    def __init__(self, store: RunStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._vigil = Vigil()
        self.watching = False
        """Whether there are runs of which only more looks can tell."""

    def look(self) -> Sequence[Loose]:
        """Return the runs without anybody: their process is gone or has not beaten for a lease of looks, or they have none."""
        loose = self._store.loose(self._owner)
        still = self._still(loose)
        found = list(self._left(loose, still))
        self.watching = len(found) < len(loose)
        return found

    def _still(self, loose: Sequence[Loose]) -> set[str]:
        """Return the counters that stand still: beats of processes, epochs of runs that nobody has begun."""
        counts = {one.process.id: one.process.beat for one in loose if one.process is not None}
        counts |= {one.run: one.epoch for one in loose if one.state == "queued"}
        self._vigil.keep(counts)
        return {key for key, count in counts.items() if self._vigil.stands_still(key, count)}

    def _left(self, loose: Sequence[Loose], still: set[str]) -> Iterator[Loose]:
        dead = dict[str, bool]()
        for one in loose:
            process = one.process
            if one.state == "running" and process is not None:
                if process.id not in dead:
                    gone = is_gone(process)
                    dead[process.id] = gone or process.id in still
                    if dead[process.id] and not gone:  # if it lives after all, it enters itself again with its next beat
                        self._store.leave(process.id)
                if dead[process.id]:
                    yield one
            elif one.state != "queued" or one.run in still:
                yield one
