"""The command line. ``flowcraft --version`` is answered here, before anything is loaded."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:] in (["--version"], ["version"]):
        from flowcraft import __version__

        sys.stdout.write(f"flowcraft {__version__}\n")
        return
    from flowcraft.cli.app import run

    run(sys.argv[1:])
