"""`python -m workers.sandbox --device cpu`: prove the lock in a process that has loaded little, and print the proof as JSON."""

from __future__ import annotations

import argparse
import sys

from workers.sandbox.trial import prove

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m workers.sandbox", description=__doc__)
    parser.add_argument("--device", required=True)
    sys.stdout.write(prove(parser.parse_args().device).model_dump_json())
