"""`python -m workers --queue cpu`: one worker, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from workers.daemon import work
from workers.launcher import ForkServer
from workers.logs import configure_logs
from workers.settings import WorkerSettings


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--queue", action="append", required=True, help="a queue to work for; may be repeated")
    parser.add_argument("--once", action="store_true", help="run what is queued now, then exit")
    options = parser.parse_args(arguments)
    configure_logs()
    settings = WorkerSettings()
    return work(settings, queues=options.queue, fork_server=ForkServer(device=settings.device), once=options.once)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
