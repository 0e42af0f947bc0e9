"""`python -m workers --queue cpu`: one worker, until SIGTERM or Ctrl-C. `python -m workers sandbox`: how it
isolates jobs.

With --once it takes one job and ends: exit status 0 when it ran one, however that job ended; 3 when there was nothing
to do; 4 when it was told to stop and gave the job back; 1 when it cannot work here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from saddlescope.contract.vocabulary import SandboxLevel
from store.doorbell import DoorbellMisconfiguredError
from store.schema import DatabaseNotReadyError, require_newest_schema
from workers.daemon import SandboxTooWeak, work
from workers.launcher import ForkServer
from workers.logs import configure_logs
from workers.protocol import Sandbox
from workers.settings import WorkerSettings


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["sandbox"]:
        return show_sandbox(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m workers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queue", action="append", required=True, help="a queue to work for; may be repeated")
    parser.add_argument(
        "--once", action="store_true", help="take one job, then exit: 0 ran one, 3 nothing to do, 4 stopped"
    )
    options = parser.parse_args(arguments)
    configure_logs()
    try:
        settings = WorkerSettings()
    except ValidationError as wrong:
        # Not the error itself: it shows the other settings, and there are passwords among them.
        told = [
            f"SADDLESCOPE_{str(error['loc'][0]).upper()}: {error['msg']}" for error in wrong.errors(include_input=False)
        ]
        parser.exit(2, "".join(f"saddlescope: {line}\n" for line in told))
    server = ForkServer(device=settings.device)
    try:
        require_newest_schema(settings.database_url)
        return work(settings, queues=options.queue, fork_server=server, max_jobs=1 if options.once else None)
    except (SandboxTooWeak, DatabaseNotReadyError, DoorbellMisconfiguredError) as refused:
        parser.exit(1, f"saddlescope: {refused}\n")


def show_sandbox(arguments: Sequence[str]) -> int:
    """Attack the sandbox as a starting worker does, and print how it stood; exit status 1 below `--required`."""
    parser = argparse.ArgumentParser(prog="python -m workers sandbox", description=show_sandbox.__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--required", type=SandboxLevel, choices=list(SandboxLevel), default=SandboxLevel.BASIC)
    options = parser.parse_args(arguments)
    server = ForkServer(device=options.device)
    try:
        ready = server.start()
    finally:
        server.close()
    sys.stdout.write(_table(ready.sandbox))
    return 0 if ready.sandbox.level.reaches(options.required) else 1


def _table(sandbox: Sandbox) -> str:
    rows = [(layer, "holds", "") for layer in sandbox.layers]
    rows += [(layer, "MISSING", why) for layer, why in sandbox.missing.items()]
    rows += [(tried.action, "stopped" if tried.is_stopped else "NOT STOPPED", tried.how) for tried in sandbox.attempts]
    lines = [f"{name:<34}{outcome:<13}{how}".rstrip() for name, outcome, how in rows]
    return "\n".join([*lines, f"level: {sandbox.level}", ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
