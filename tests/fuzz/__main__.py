from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workers"))  # the archives written by hand

from tests.fuzz import operators

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=operators.__doc__)
    parser.add_argument("subject", choices=["operators"])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case; every case is a seed of its own")
    parser.add_argument(
        "--only", action="store_true", help="run the one case of the seed, here and unlocked, and show it"
    )
    options = parser.parse_args()
    if options.only:
        operators.show(options.seed)
    else:
        sys.exit(0 if operators.run(options.minutes, first_seed=options.seed) else 1)
