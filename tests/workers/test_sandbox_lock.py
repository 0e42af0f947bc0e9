"""Laws of the lock: it stops every attack that would succeed without it, and its level is what was shown."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from weak_kernel import NO_FILTERS, NO_LANDLOCK, NO_NAMESPACES, take_away

from saddlescope.contract.vocabulary import SandboxLevel
from workers.protocol import Limits
from workers.sandbox import kernel
from workers.sandbox.assembler import ALLOW, KILL, Match, Rule, assemble, refuse
from workers.sandbox.attacks import ACTIONS, Scene, open_scene
from workers.sandbox.calls import NEWEST, machine
from workers.sandbox.layers import OPTIONAL, Confinement, lock
from workers.sandbox.policy import install
from workers.sandbox.trial import DONE, make_cell, prove


def ended(act: Callable[[], None]) -> int:
    """How a forked process that does this ends: 0, the errno that it was refused with, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except OSError as refusal:
            os._exit(refusal.errno or 255)
        except ValueError:  # how Python words a refused setrlimit
            os._exit(errno.EPERM)
        finally:
            traceback.print_exc()
            os._exit(254)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def locked(layers: Collection[str], act: Callable[[], None]) -> int:
    cell, parent = make_cell("cpu", layers), os.getpid()
    limits = Limits(memory_bytes=2**31, file_bytes=2**20, threads=2)

    def lock_and_act() -> None:
        lock(Confinement(cell=cell, limits=limits, parent=parent, descriptors=frozenset()))
        act()

    try:
        return ended(lock_and_act)
    finally:
        os.close(cell.root)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_scene(tmp_path_factory.mktemp("scene"), memory_bytes=2**32) as scene:
        yield scene


# What this kernel, or a container's, may refuse to any process.
_AT_THE_MACHINE_S_WILL = {
    "open a file by its handle", "make a device file", "mount a file system", "change the root", "trace the parent",
    "read the parent's memory", "become another user", "enter a new namespace", "reach a keyring", "raise a limit",
    "load a program into the kernel", "open a performance counter", "set up an I/O ring", "handle page faults",
}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
def test_every_attack_succeeds_without_the_lock_and_not_with_it(scene: Scene, action: str) -> None:
    (scene.folder / "removable").touch()
    assert ended(lambda: ACTIONS[action](scene)) == 0 or action in _AT_THE_MACHINE_S_WILL
    (scene.folder / "removable").touch()
    assert locked(OPTIONAL, lambda: ACTIONS[action](scene)) != 0


@pytest.mark.parametrize("layer", sorted(OPTIONAL - {"another_user", "no_capabilities"}))
def test_each_layer_alone_keeps_files_or_system_calls_away(scene: Scene, layer: str) -> None:
    refused = {errno.EACCES, errno.ENOENT}
    assert locked({layer}, lambda: ACTIONS["read a file"](scene)) in refused
    assert locked((), lambda: ACTIONS["read a file"](scene)) == 0
    if layer == "own_namespaces":
        assert locked({layer}, lambda: ACTIONS["connect by TCP"](scene)) == errno.ENETUNREACH


def test_a_process_that_cannot_be_locked_as_it_was_asked_does_not_go_on() -> None:
    def on_a_weak_kernel() -> None:
        take_away([NO_NAMESPACES])
        cell = make_cell("cpu", {"own_namespaces"})
        limits = Limits(file_bytes=2**20)
        lock(Confinement(cell=cell, limits=limits, parent=os.getppid(), descriptors=frozenset()))

    assert ended(on_a_weak_kernel) == errno.ENOSYS


@pytest.mark.parametrize(
    ("missing", "level"),
    [
        ((), SandboxLevel.STRICT),
        ((NO_LANDLOCK,), SandboxLevel.STANDARD),
        ((NO_NAMESPACES,), SandboxLevel.STANDARD),
        ((NO_LANDLOCK, NO_NAMESPACES), SandboxLevel.STANDARD),
        ((NO_FILTERS,), SandboxLevel.BASIC),
        ((NO_FILTERS, NO_LANDLOCK, NO_NAMESPACES), SandboxLevel.BASIC),
    ],
)
def test_the_level_is_what_the_attacks_have_shown(
    missing: tuple[str, ...], level: SandboxLevel, tmp_path: Path
) -> None:
    def prove_there() -> None:
        take_away(missing)
        proof = prove("cpu")
        (tmp_path / "proof").write_text(proof.model_dump_json(), encoding="utf-8")
        undone = [attempt for attempt in proof.attempts if not attempt.is_stopped]
        assert bool(undone) == (level is SandboxLevel.BASIC), undone
        assert all(attempt.how == DONE for attempt in undone), undone
        assert len(proof.missing) == len(missing), proof.missing
        # A machine without namespaces at all can do no better than this test asks.
        assert not proof.level.reaches(SandboxLevel.STANDARD) or level.reaches(SandboxLevel.STANDARD)
        assert proof.level is level or "own_namespaces" in proof.missing or "no_files" in proof.missing

    assert ended(prove_there) == 0, (tmp_path / "proof").read_text()


def filtered(rules: Collection[Rule], act: Callable[[], None], default: int = ALLOW) -> int:
    here = machine()
    assert here is not None

    def filter_and_act() -> None:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        install(assemble(tuple(rules), machine=here, default=default))
        act()

    return ended(filter_and_act)


def test_the_first_rule_that_matches_decides() -> None:
    def personality(persona: int) -> Callable[[], None]:
        number = machine().numbers["personality"]  # type: ignore[union-attr]
        return lambda: kernel.call(number, persona) and None

    rules = (
        Rule("personality", refuse(errno.EXDEV), (Match(0, 0x4, 0xF), Match(0, 0x50, 0xF0))),
        Rule("personality", KILL, (Match(0, 1 << 40, 1 << 40),)),
        Rule("personality", refuse(errno.EDOM), (Match(0, 0x4, 0xF),)),
    )
    assert filtered(rules, personality(0)) == 0
    assert filtered(rules, personality(0x54)) == errno.EXDEV
    assert filtered(rules, personality(0x44)) == errno.EDOM
    assert filtered(rules, personality(0x54 | 1 << 40)) == errno.EXDEV
    assert filtered(rules, personality(0x44 | 1 << 40)) == -signal.SIGSYS
    assert filtered((Rule("personality", KILL),), personality(0)) == -signal.SIGSYS


def test_a_call_by_another_interface_dies_and_one_from_the_future_does_not_exist() -> None:
    assert filtered((), lambda: kernel.call(NEWEST + 1000) and None) == errno.ENOSYS
    if os.uname().machine == "x86_64":
        assert filtered((), lambda: kernel.call(0x4000_0000 | 39) and None) == -signal.SIGSYS
