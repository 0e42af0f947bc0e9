from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "workers"))  # the files written by hand

if __name__ == "__main__":
    subjects = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=f"one of: {', '.join(subjects)}")
    parser.add_argument("subject", choices=subjects)
    chosen = parser.parse_args(sys.argv[1:2]).subject
    # Only the chosen one is imported: a fork of a small process is cheap.
    sys.exit(importlib.import_module(f"tests.fuzz.{chosen}").main(sys.argv[2:]))
