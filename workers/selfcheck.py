"""`python -m workers.selfcheck`: one JSON object that says on what a worker here would compute, and how isolated."""

from __future__ import annotations

import json
import os
import sys

from workers import sandbox
from workers.preload import resolve_device


def main() -> None:
    import torch  # noqa: PLC0415 - the worker's own process never does

    told = {
        "device": resolve_device(os.environ.get("SADDLESCOPE_DEVICE", "auto")),
        "torch": torch.__version__,
        "cuda_devices": torch.cuda.device_count(),
        "sandbox": sandbox.LEVEL,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
