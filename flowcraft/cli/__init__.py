"""The command line. ``flowcraft --version`` is answered here, before anything is loaded."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command that the arguments name."""
    _open_streams()
    try:
        _main()
    except KeyboardInterrupt:  # while the commands were loaded; they tell of it themselves
        sys.stderr.write("flowcraft: interrupted\n")
        raise SystemExit(130) from None


def _open_streams() -> None:
    """Give streams that were closed (``>&-``) a place that leads nowhere, which everything else may rely on."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - lives as long as the process


def _main() -> None:
    if sys.argv[1:] in (["--version"], ["version"]):
        from flowcraft import __version__

        sys.stdout.write(f"flowcraft {__version__}\n")
        return
    from flowcraft.cli.app import run

    run(sys.argv[1:])
