"""What a runner must not be able to do: a table of actions, each of which returns if and only if it was done."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox import kernel

_PTRACE_SEIZE = 0x4206
_HANDLE_BYTES = 128

TOO_MUCH_MEMORY = "take more memory than allowed"
_AT_FDCWD = -100


@dataclass(frozen=True)
class Scene:
    """Things within reach that are not the runner's.

    Attributes:
        secret: a file with `SECRET` in it.
        folder: where it lies, writable by the worker's user.
        parent: the process that forked the runner.
        address: a TCP and a UDP socket listen here.
        abstract: name of a Unix socket that has no file.
        memory_bytes: more than the runner may take.
    """

    secret: Path
    folder: Path
    parent: int
    address: tuple[str, int]
    abstract: str
    memory_bytes: int


@contextmanager
def open_scene(folder: Path, *, memory_bytes: int) -> Iterator[Scene]:
    """Lay out the scene in an empty folder."""
    with ExitStack() as stack:
        secret = folder / "secret"
        secret.write_text("SECRET", encoding="ascii")
        (folder / "removable").touch()
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(tcp.getsockname())
        for name in (str(folder / "socket"), f"\0saddlescope-{os.getpid()}"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(name)
            listener.listen()
        yield Scene(
            secret=secret,
            folder=folder,
            parent=os.getpid(),
            address=tcp.getsockname(),
            abstract=f"\0saddlescope-{os.getpid()}",
            memory_bytes=memory_bytes,
        )


def _read_file(scene: Scene) -> None:
    scene.secret.read_bytes()


def _list_folder(scene: Scene) -> None:
    os.listdir(scene.folder)


def _write_file(scene: Scene) -> None:
    (scene.folder / "written").write_bytes(b"!")


def _remove_file(scene: Scene) -> None:
    os.unlink(scene.folder / "removable")


def _link_file(scene: Scene) -> None:
    os.symlink(scene.secret, scene.folder / f"link-{os.getpid()}")


def _change_mode(scene: Scene) -> None:
    os.chmod(scene.secret, 0o600)


def _open_by_handle(scene: Scene) -> None:
    handle = ctypes.create_string_buffer(_HANDLE_BYTES.to_bytes(4, "little"), 8 + _HANDLE_BYTES)
    mount = ctypes.create_string_buffer(4)
    _call("name_to_handle_at", _AT_FDCWD, os.fsencode(scene.secret), handle, mount, 0)
    _call("open_by_handle_at", os.open("/", os.O_RDONLY), handle, os.O_RDONLY)


def _parent_environment(scene: Scene) -> None:
    Path(f"/proc/{scene.parent}/environ").read_bytes()


def _parent_memory(scene: Scene) -> None:
    found = ctypes.create_string_buffer(8)
    address = id(None)  # the same in a forked process
    local = (ctypes.c_size_t * 2)(ctypes.addressof(found), 8)
    remote = (ctypes.c_size_t * 2)(address, 8)
    _call("process_vm_readv", scene.parent, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)


def _trace_parent(scene: Scene) -> None:
    _call("ptrace", _PTRACE_SEIZE, scene.parent, 0, 0)


def _signal_parent(scene: Scene) -> None:
    os.kill(scene.parent, 0)


def _handle_of_parent(scene: Scene) -> None:
    _call("pidfd_send_signal", _call("pidfd_open", scene.parent, 0), 0, 0, 0)


def _limits_of_parent(scene: Scene) -> None:
    limits = resource.prlimit(scene.parent, resource.RLIMIT_CORE)
    resource.prlimit(scene.parent, resource.RLIMIT_CORE, limits)


def _tcp(scene: Scene) -> None:
    socket.socket(socket.AF_INET).connect(scene.address)


def _udp(scene: Scene) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"!", scene.address)


def _unix_socket(scene: Scene) -> None:
    socket.socket(socket.AF_UNIX).connect(str(scene.folder / "socket"))


def _abstract_socket(scene: Scene) -> None:
    socket.socket(socket.AF_UNIX).connect(scene.abstract)


def _netlink(scene: Scene) -> None:
    del scene
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))


def _fork(scene: Scene) -> None:
    del scene
    if os.fork() == 0:
        os._exit(0)


def _execute(scene: Scene) -> None:
    del scene
    # Ends the process with status 0 without a word, which is what "done" looks like too.
    os.execv(sys.executable, [sys.executable, "-S", "-c", ""])  # noqa: S606


def _execute_from_memory(scene: Scene) -> None:
    del scene
    program = os.memfd_create("program", 0)
    os.write(program, f"#!{sys.executable} -S\n".encode())
    os.execve(program, ["program"], {})  # noqa: S606


def _other_user(scene: Scene) -> None:
    del scene
    os.setresuid(1, 1, 1)


def _mount(scene: Scene) -> None:
    _call("mount", b"none", os.fsencode(scene.folder), b"tmpfs", 0, 0)
    _call("umount2", os.fsencode(scene.folder), 0)


def _new_namespace(scene: Scene) -> None:
    del scene
    kernel.unshare(kernel.CLONE_NEWUSER)


def _change_root(scene: Scene) -> None:
    os.chroot(scene.folder)


def _device_file(scene: Scene) -> None:
    os.mknod(scene.folder / f"null-{os.getpid()}", 0o600 | 0o020000, os.makedev(1, 3))


def _keyring(scene: Scene) -> None:
    del scene
    _call("keyctl", 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session, made if it is not there


def _kernel_program(scene: Scene) -> None:
    del scene
    attributes = ctypes.create_string_buffer(b"".join(n.to_bytes(4, "little") for n in (2, 4, 4, 1)), 128)
    _call("bpf", 0, attributes, 128)  # BPF_MAP_CREATE of an array


def _performance_counter(scene: Scene) -> None:
    del scene
    attributes = ctypes.create_string_buffer((1).to_bytes(4, "little") + (112).to_bytes(4, "little"), 112)
    attributes[8] = b"\x09"  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY
    _call("perf_event_open", attributes, 0, -1, -1, 0)


def _io_ring(scene: Scene) -> None:
    del scene
    _call("io_uring_setup", 1, ctypes.create_string_buffer(120))


def _user_faults(scene: Scene) -> None:
    del scene
    _call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY


def _shared_memory(scene: Scene) -> None:
    del scene
    segment = _call("shmget", 0, 4096, 0o1600)
    _call("shmctl", segment, 0, 0)  # IPC_RMID, or it would outlive everyone


def _personality(scene: Scene) -> None:
    del scene
    _call("personality", 0x0040000)  # ADDR_NO_RANDOMIZE


def _too_much_memory(scene: Scene) -> None:
    mmap.mmap(-1, scene.memory_bytes)


def _higher_limit(scene: Scene) -> None:
    del scene
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))


def _call(name: str, *arguments: kernel.Argument) -> int:
    return kernel.call(kernel.this_machine().numbers[name], *arguments)


ACTIONS: Mapping[str, Callable[[Scene], None]] = {
    "read a file": _read_file,
    "list a folder": _list_folder,
    "write a file": _write_file,
    "remove a file": _remove_file,
    "link a file": _link_file,
    "change a file's mode": _change_mode,
    "open a file by its handle": _open_by_handle,
    "make a device file": _device_file,
    "mount a file system": _mount,
    "change the root": _change_root,
    "connect by TCP": _tcp,
    "send by UDP": _udp,
    "connect to a Unix socket": _unix_socket,
    "connect to an abstract socket": _abstract_socket,
    "talk to the kernel by netlink": _netlink,
    "fork": _fork,
    "execute a program": _execute,
    "execute a program from memory": _execute_from_memory,
    "read the parent's environment": _parent_environment,
    "read the parent's memory": _parent_memory,
    "trace the parent": _trace_parent,
    "signal the parent": _signal_parent,
    "take a handle of the parent": _handle_of_parent,
    "change the parent's limits": _limits_of_parent,
    "become another user": _other_user,
    "enter a new namespace": _new_namespace,
    "reach a keyring": _keyring,
    "load a program into the kernel": _kernel_program,
    "open a performance counter": _performance_counter,
    "set up an I/O ring": _io_ring,
    "handle page faults": _user_faults,
    "make shared memory": _shared_memory,
    "change the personality": _personality,
    "raise a limit": _higher_limit,
    TOO_MUCH_MEMORY: _too_much_memory,
}
"""By the words in which the worker reports them."""
