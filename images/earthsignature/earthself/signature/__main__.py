"""The command, for `python -m earthself.signature`."""

from __future__ import annotations

from earthself.signature.cli import main

if __name__ == "__main__":
    main()
