"""A kernel that lacks system calls: this process and its children are told that they do not exist."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from workers.sandbox import kernel, policy
from workers.sandbox.assembler import ALLOW, Rule, assemble, refuse

NO_LANDLOCK = "landlock_create_ruleset"
NO_NAMESPACES = "unshare"
NO_FILTERS = "seccomp"


def take_away(calls: Sequence[str]) -> None:
    """For good; seccomp itself may be among the calls."""
    if calls:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        rules = [Rule(call, refuse(errno.ENOSYS)) for call in calls]
        policy.install(assemble(rules, machine=kernel.this_machine(), default=ALLOW))
