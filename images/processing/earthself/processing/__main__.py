"""`python -m earthself.processing NAME …`: the same as `earthself-step NAME …`, without a script on the path."""

from __future__ import annotations

import sys

from earthself.processing.cli import main

if __name__ == "__main__":
    sys.exit(main())
