"""Every hostile request alone, one after the other: how it ended and how long that took, as a table, the slowest first.

Exit status 1 if one ends otherwise than it should or later than it may, or if a plain job after it does not succeed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "workers")]  # as pytest has them

MAX_SECONDS = 5.0


def main() -> int:
    from e2e_service import running_service  # noqa: PLC0415 - found on the path above

    from tests.hostile.hostile_requests import cases, readable  # noqa: PLC0415
    from tests.hostile.sending import plain, send  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="the cases with this in their name")
    parser.add_argument("--above", type=float, default=0.0, help="show only what took so many seconds, or went wrong")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        chosen = {name: case for name, case in cases(folder, folder / "marker").items() if options.only in name}
        with running_service(folder / "data", {"SADDLESCOPE_REFERENCE_ROOTS": str(readable(folder))}) as service:
            for _ in range(5):
                plain(service)
            ends = {name: send(service, case) for name, case in chosen.items()}
        has_marker = (folder / "marker").exists()
    num_wrong = 0
    for name, end in sorted(ends.items(), key=lambda each: -each[1].seconds):
        is_right = end.word in chosen[name].ends and end.following == "succeeded" and end.seconds < MAX_SECONDS
        num_wrong += not is_right
        if not is_right or end.seconds >= options.above:
            remark = "" if is_right else f"WRONG, should be {' or '.join(chosen[name].ends)}; then {end.following}"
            print(f"{end.seconds:7.2f} s {end.job_seconds:7.2f} s in the job  {name}: {end.word}  {remark}".rstrip())
    print(f"{len(ends)} cases, {num_wrong} ended wrongly; {'a marker was written' if has_marker else 'no code ran'}")
    return 1 if num_wrong or has_marker or not ends else 0


if __name__ == "__main__":
    sys.exit(main())
