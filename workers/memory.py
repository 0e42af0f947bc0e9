"""How much memory there is, and whether the kernel has killed for want of it."""

from __future__ import annotations

from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """Processes that the kernel's out-of-memory killer has taken, counted by the nearest counter that can be read.

    Our control group's (version 2, then 1), else the machine's: the number means something only against itself
    a moment before.
    """
    for path, key in (
        (_own_group("") / "memory.events", "oom_kill"),
        (_own_group("memory") / "memory.oom_control", "oom_kill"),
        (Path("/proc/vmstat"), "oom_kill"),
    ):
        if path.is_file():
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
    return 0


def memory_bytes() -> int:
    """What this process and its children may use together: the control group's limit or the machine's memory."""
    total = _machine_bytes()
    for path in (_own_group("") / "memory.max", _own_group("memory") / "memory.limit_in_bytes"):
        if path.is_file():
            text = path.read_text(encoding="ascii").strip()
            if text != "max":
                total = min(total, int(text))
    return total


def _machine_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemTotal")


def _own_group(controller: str) -> Path:
    """Folder of our control group: `controller` is empty for the unified hierarchy."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (controller or controllers == ""):
            root = _CONTROL_GROUPS / controller
            inside = root / path.lstrip("/")
            # In a container the path is the host's, while the mount shows our own group as its root.
            return inside if inside.is_dir() else root
    return _CONTROL_GROUPS / controller
