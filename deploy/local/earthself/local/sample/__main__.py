"""`python -m earthself.local.sample --port PORT` serves the sample on the loopback interface until it is stopped."""

from __future__ import annotations

import argparse
import sys

from earthself.local.settings import HOST


def main(arguments: list[str] | None = None) -> int:
    """Serve; returns 0 when told to stop."""
    parser = argparse.ArgumentParser(prog="earthself.local.sample", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    options = parser.parse_args(arguments)
    import uvicorn
    from earthself.local.sample.provider import application

    uvicorn.run(application(), host=HOST, port=options.port, log_level="info", access_log=True, timeout_graceful_shutdown=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
