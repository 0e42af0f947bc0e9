"""`python -m workers --queue cpu`: one worker, until SIGTERM or Ctrl-C.

With --once it takes one job and ends: exit status 0 when it ran one, however that job ended; 3 when there was nothing
to do; 4 when it was told to stop and gave the job back; 1 when it cannot work here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from workers.daemon import work
from workers.launcher import ForkServer
from workers.logs import configure_logs
from workers.settings import WorkerSettings


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queue", action="append", required=True, help="a queue to work for; may be repeated")
    parser.add_argument(
        "--once", action="store_true", help="take one job, then exit: 0 ran one, 3 nothing to do, 4 stopped"
    )
    options = parser.parse_args(arguments)
    configure_logs()
    settings = WorkerSettings()
    return work(
        settings,
        queues=options.queue,
        fork_server=ForkServer(device=settings.device),
        max_jobs=1 if options.once else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
