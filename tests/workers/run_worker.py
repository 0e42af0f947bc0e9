"""The product's worker with runners that do what RUN_TARGET says, on a kernel without the calls in RUN_WITHOUT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from weak_kernel import take_away

from workers.daemon import work
from workers.launcher import ForkServer
from workers.logs import configure_logs
from workers.settings import WorkerSettings

if __name__ == "__main__":
    configure_logs()
    take_away(os.environ.get("RUN_WITHOUT", "").split())
    server = ForkServer(
        device="cpu", target=os.environ.get("RUN_TARGET", "run_targets:DEED"), path=(Path(__file__).parent,)
    )
    max_jobs = int(sys.argv[1]) if sys.argv[1:] else None
    sys.exit(work(WorkerSettings(), queues=("cpu",), fork_server=server, max_jobs=max_jobs))
