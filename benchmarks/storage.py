"""The store beside plain sqlite3 that does the least: fence, insert, commit."""

from __future__ import annotations

from benchmarks.measure import answer, in_folder, interleaved, median, show

PIECES = 4000
CHILD = "benchmarks.children.storage_side"


def main(rounds: int = 5) -> None:
    """Measure batches of one piece and of 64."""
    measures = {
        (side, size): in_folder(lambda folder, side=side, size=size: answer("-m", CHILD, side, str(size), str(PIECES), folder))
        for size in (1, 64)
        for side in ("sqlite3", "flowcraft")
    }
    found = interleaved(measures, rounds)
    rows = []
    for size in (1, 64):
        plain, ours = (median(found[side, size], "seconds") / PIECES * 1000 for side in ("sqlite3", "flowcraft"))
        rows.append((f"batches of {size}", plain, ours, ours / plain))
    show(f"Saving a piece, ms, medians of {rounds} interleaved rounds", ("", "sqlite3", "SqlRunStore", "ratio"), rows)
