"""What earlier runs tell of a stage: how many elements, tries, calls, tokens, seconds and dollars it took."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flowcraft.engine.forecasts.ranges import Range, observed

_BELOW = re.compile(r"/(?:judge|call\[\d+\](?:/.*)?|tools\[[^/]*)$")
_MARKS = re.compile(r"[\[#~][^/]*")
_LAST_TRY = re.compile(r"#\d+$")
_LAST_GO = re.compile(r"~\d+$")
DOUBT = 0.5
"""By what share one more amount may differ from those that were alike so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPiece:
    """A finished bit of work of an earlier run; ``seconds`` is how long it took."""

    run: str
    path: str
    state: str = "done"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCall:
    """A call of a model in an earlier run. ``usd`` is None where nobody knows what it cost."""

    run: str
    path: str
    seconds: float = 0.0
    input: int = 0
    output: int = 0
    usd: float | None = None


@dataclass(slots=True)
class _Sums:
    """What one stage did in one run."""

    elements: set[str] = field(default_factory=set)
    tries: set[str] = field(default_factory=set)
    calls: int = 0
    input: int = 0
    output: int = 0
    usd: float | None = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return len(self.tries) or len(self.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a stage took in earlier runs, a value for each run.

    ``elements`` of each time that a run came to it, ``tries`` of each element, all else of each try. ``usd`` is empty where
    prices were not known.
    """

    elements: tuple[float, ...] = ()
    tries: tuple[float, ...] = ()
    calls: tuple[float, ...] = ()
    input: tuple[float, ...] = ()
    output: tuple[float, ...] = ()
    usd: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()

    def range(self, name: str) -> Range | None:
        """Return the range of one of these amounts; None where nothing is known of it."""
        values = getattr(self, name)
        return observed(values, 0.0 if name in ("elements", "tries", "calls") else DOUBT) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of the earlier runs of a workflow, by the path of each stage without elements and tries."""

    runs: int = 0
    stages: Mapping[str, Past] = field(default_factory=dict)


def history(runs: Iterable[str], pieces: Iterable[PastPiece], calls: Iterable[PastCall]) -> History:
    """Return what these runs tell."""
    known = list(runs)
    sums: dict[str, dict[str, _Sums]] = {run: defaultdict(_Sums) for run in known}
    for piece in pieces:
        unit = _unit(piece.path)
        if piece.run in sums and piece.state == "done" and _BELOW.search(piece.path) is None and unit == piece.path:
            told = _noted(sums[piece.run], unit)
            told.seconds[unit] = piece.seconds
    for call in calls:
        if call.run in sums:
            _add(_noted(sums[call.run], _unit(call.path)), call)
    paths = {path for run in sums.values() for path in run}
    return History(runs=len(known), stages={path: _past(path, [sums[run] for run in known]) for path in paths})


def _add(told: _Sums, call: PastCall) -> None:
    told.calls += 1
    told.input += call.input
    told.output += call.output
    told.usd = None if told.usd is None or call.usd is None else told.usd + call.usd


def _noted(stages: dict[str, _Sums], unit: str) -> _Sums:
    told = stages[_MARKS.sub("", unit)]
    told.elements.add(_LAST_TRY.sub("", unit))
    if _LAST_TRY.search(unit):
        told.tries.add(unit)
    return told


def _unit(path: str) -> str:
    return _LAST_GO.sub("", _BELOW.sub("", path))


def _past(path: str, runs: list[dict[str, _Sums]]) -> Past:
    around = path.rpartition("/")[0]
    elements: list[float] = []
    found: list[_Sums] = []
    for run in runs:
        frames = run[around].units if around in run else 0 if around else 1
        told = run.get(path)
        if frames or told is not None:
            elements.append((len(told.elements) if told is not None else 0) / max(frames, 1))
        if told is not None and told.units:
            found.append(told)
    return Past(
        elements=tuple(elements),
        tries=tuple(told.units / len(told.elements) for told in found),
        calls=tuple(told.calls / told.units for told in found),
        input=tuple(told.input / told.units for told in found),
        output=tuple(told.output / told.units for told in found),
        usd=tuple(told.usd / told.units for told in found if told.usd is not None and told.calls),
        seconds=tuple(_seconds(told) for told in found if told.seconds),
    )


def _seconds(told: _Sums) -> float:
    """Return the mean seconds of a try; of a stage without tries, of an element."""
    own = [seconds for unit, seconds in told.seconds.items() if not told.tries or unit in told.tries]
    return sum(own) / len(own) if own else 0.0
