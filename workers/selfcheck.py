"""`python -m workers.selfcheck`: one JSON object that says on what a worker here would compute, and how isolated."""

from __future__ import annotations

import json
import os
import sys

from workers.launcher import ForkServer


def main() -> None:
    import torch  # noqa: PLC0415 - the worker's own process never does

    server = ForkServer(device=os.environ.get("SADDLESCOPE_DEVICE", "auto"))
    try:
        ready = server.start()
    finally:
        server.close()
    told = {
        "device": ready.device,
        "torch": torch.__version__,
        "cuda_devices": torch.cuda.device_count(),
        "sandbox": ready.sandbox.level,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
