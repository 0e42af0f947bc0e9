"""Numbers of the system calls that the sandbox speaks of, on the two machines that it knows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

# name, x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), aarch64 (include/uapi/asm-generic/unistd.h)
_NUMBERS = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; lseek 8 62; close 3 57; fstat 5 80;
newfstatat 262 79; statx 332 291; fcntl 72 25; ioctl 16 29; fsync 74 82; fdatasync 75 83; ftruncate 77 46; open 2 -;
openat 257 56; openat2 437 437; stat 4 -; lstat 6 -; access 21 -; faccessat 269 48; faccessat2 439 439;
readlink 89 -; readlinkat 267 78; getcwd 79 17; getdents64 217 61; mmap 9 222; munmap 11 215; mremap 25 216;
mprotect 10 226; madvise 28 233; brk 12 214; mincore 27 232; mlock 149 228; munlock 150 229; memfd_create 319 279;
futex 202 98; sched_yield 24 124; sched_getaffinity 204 123; sched_setaffinity 203 122; clone 56 220; clone3 435 435;
exit 60 93; exit_group 231 94; set_robust_list 273 99; set_tid_address 218 96; rseq 334 293; membarrier 324 283;
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; sigaltstack 131 132; restart_syscall 219 128;
kill 62 129; tgkill 234 131; getpid 39 172; getppid 110 173; gettid 186 178; getuid 102 174; geteuid 107 175;
getgid 104 176; getegid 108 177; getcpu 309 168; getrusage 98 165; getrlimit 97 163; prlimit64 302 261;
sysinfo 99 179; times 100 153; uname 63 160; arch_prctl 158 -; prctl 157 167; time 201 -; gettimeofday 96 169;
clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115; nanosleep 35 101; getrandom 318 278;
get_mempolicy 239 236; poll 7 -; ppoll 271 73; eventfd2 290 19; pipe2 293 59; epoll_create1 291 20; epoll_ctl 233 21;
epoll_pwait 281 22; socket 41 198; unshare 272 97; mount 165 40; umount2 166 39; setns 308 268; ptrace 101 117;
process_vm_readv 310 270; pidfd_open 434 434; pidfd_send_signal 424 424; name_to_handle_at 303 264;
open_by_handle_at 304 265; keyctl 250 219; bpf 321 280; perf_event_open 298 241; io_uring_setup 425 425;
userfaultfd 323 282; shmget 29 194; shmctl 31 195; personality 135 92; mknodat 259 33; execveat 322 281; capset 126 91;
seccomp 317 277; landlock_create_ruleset 444 444; landlock_add_rule 445 445; landlock_restrict_self 446 446
"""
NEWEST = 451
"""A higher number is a call younger than this table."""


@dataclass(frozen=True)
class Machine:
    """The binary interface of one kind of processor.

    Attributes:
        audit_code: how the kernel names it to a filter (AUDIT_ARCH_*).
        numbers: calls by name; calls that it does not have are missing.
    """

    audit_code: int
    numbers: Mapping[str, int]


def machine() -> Machine | None:
    """The machine that this process runs on, None if the sandbox has no numbers for it."""
    return _machines().get(os.uname().machine)


@cache
def _machines() -> Mapping[str, Machine]:
    rows = [row.split() for row in _NUMBERS.split(";")]
    x86 = {name: int(number) for name, number, _ in rows if number != "-"}
    arm = {name: int(number) for name, _, number in rows if number != "-"}
    return {"x86_64": Machine(0xC000_003E, x86), "aarch64": Machine(0xC000_00B7, arm)}
