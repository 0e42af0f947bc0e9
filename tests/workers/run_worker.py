"""The product's worker with runners that do what `run_targets` says."""

from __future__ import annotations

import sys
from pathlib import Path

from workers.daemon import work
from workers.launcher import ForkServer
from workers.logs import configure_logs
from workers.settings import WorkerSettings

if __name__ == "__main__":
    configure_logs()
    server = ForkServer(device="cpu", target="run_targets:perform", path=(Path(__file__).parent,))
    max_jobs = int(sys.argv[1]) if sys.argv[1:] else None
    sys.exit(work(WorkerSettings(), queues=("cpu",), fork_server=server, max_jobs=max_jobs))
