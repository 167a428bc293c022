"""`python -m benchmarks [NAME ...] [--rounds N]`: measure and print tables; without names, all of them."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3

from benchmarks import bodies, calls, crewai, engine, mutations, startup, storage

ALL = {
    "startup": startup.main,
    "storage": storage.main,
    "engine": engine.main,
    "bodies": bodies.main,
    "calls": calls.main,
    "crewai": crewai.main,
    "fuzz": mutations.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help="what to measure (default: everything)")
    parser.add_argument("--rounds", type=int, help="how often to take each measurement")
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print("Read ratios rather than times: another machine, or this one on another day, gives other times.\n")
    for name, measure in ALL.items():
        if name in (given.names or ALL):
            measure(*([given.rounds] if given.rounds else []))


if __name__ == "__main__":
    main()
