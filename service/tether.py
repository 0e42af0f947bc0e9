"""Become another program that is told to stop when its parent dies, even by SIGKILL.

`python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT…]`: a script of its own, because code between fork and exec is not
safe in a process with threads. Linux only; elsewhere the program runs untethered.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the request above was made.
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - this is what the script is for


if __name__ == "__main__":
    main()
