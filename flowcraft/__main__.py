"""``python -m flowcraft``."""

from flowcraft.cli import main

if __name__ == "__main__":
    main()
