"""The pickle inside a torch.save file, interpreted over plain values and tensor descriptors.

Nothing is imported and nothing is called: a global is one of a closed list of names, and the only effects of an opcode
are on dicts, lists, tuples and descriptors made here. Everything else is refused.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum

import torch

from workers.faults import quoted
from workers.readers.mapped import MAX_RANK, Unreadable

_MAX_OPCODES = 5_000_000


@dataclass(frozen=True)
class StoredNumbers:
    """The flat numbers behind tensors: the record `key` of the archive."""

    dtype: torch.dtype
    is_bool: bool
    key: str
    numel: int


@dataclass(frozen=True)
class StoredTensor:
    """A strided view of stored numbers."""

    numbers: StoredNumbers
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Mark(Enum):
    MARK = "mark"


class _Global(Enum):
    ORDERED_DICT = "collections.OrderedDict"
    REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
    REBUILD_PARAMETER = "torch._utils._rebuild_parameter"


_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.uint8,
}


@dataclass(frozen=True)
class _StorageType:
    name: str


@dataclass(frozen=True)
class Named:
    """A Python object that is known by its name alone."""

    name: str


@dataclass(eq=False)
class Inert:
    """What calling a known name would have made: the arguments and the state, and nothing happens."""

    name: str
    arguments: tuple[object, ...]
    state: object = None


Value = object
"""What may lie on the stack; every use asks for the type that it needs."""


def interpret(pickle: bytes, *, inert: Collection[str] = ()) -> Value:
    """The object that the pickle describes; instances of the names in `inert` become `Inert`.

    Raises:
        Unreadable: for a global outside the lists, an opcode outside plain data, or damage.
    """
    is_collecting = gc.isenabled()
    # Searching millions of new tuples for cycles, again and again as they become more, takes longer than making them.
    gc.disable()
    try:
        return _Machine(pickle, inert).run()
    finally:
        if is_collecting:
            gc.enable()


class _Machine:
    """Stack, memo and position of one interpretation."""

    def __init__(self, pickle: bytes, inert: Collection[str]) -> None:
        self._pickle = pickle
        self._inert = inert
        self._at = 0
        self._stack: list[Value] = []
        self._memo: dict[int, Value] = {}

    def run(self) -> Value:
        for _ in range(_MAX_OPCODES):
            opcode = self._take(1)
            if opcode == b".":
                return self._pop()
            action = _ACTIONS.get(opcode)
            if action is None:
                raise Unreadable(
                    f"the pickle uses opcode 0x{opcode.hex()}, which no state dict needs; "
                    "save only tensors: torch.save(model.state_dict(), path)"
                )
            action(self)
        raise Unreadable(f"the pickle has more than {_MAX_OPCODES} opcodes")

    def _take(self, size: int) -> bytes:
        piece = self._pickle[self._at : self._at + size]
        if len(piece) != size:
            raise Unreadable("the pickle ends too early")
        self._at += size
        return piece

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _pop(self) -> Value:
        if not self._stack:
            raise Unreadable("the pickle takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> Value:
        if not self._stack:
            raise Unreadable("the pickle looks at an empty stack")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Value]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _Mark.MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise Unreadable("the pickle lacks a mark")

    def push(self, value: Value) -> None:
        self._stack.append(value)

    def push_long(self) -> None:
        size = self._number(1)
        if size > 8:
            raise Unreadable("the pickle holds an integer of more than 64 bits")
        self.push(int.from_bytes(self._take(size), "little", signed=True))

    def push_text(self, length_bytes: int) -> None:
        try:
            self.push(self._take(self._number(length_bytes)).decode("utf-8"))
        except UnicodeDecodeError:
            raise Unreadable("the pickle holds text that is not UTF-8") from None

    def push_unpacked(self, layout: str, size: int) -> None:
        self.push(struct.unpack(layout, self._take(size))[0])

    def skip(self, size: int) -> None:
        self._take(size)

    def remember(self, key: int) -> None:
        self._memo[key] = self._top()

    def remember_at(self, key_bytes: int) -> None:
        self.remember(self._number(key_bytes))

    def remember_next(self) -> None:
        self.remember(len(self._memo))

    def recall(self, key_bytes: int) -> None:
        key = self._number(key_bytes)
        if key not in self._memo:
            raise Unreadable("the pickle recalls what it never stored")
        self.push(self._memo[key])

    def make_tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise Unreadable("the pickle takes from an empty stack")
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def make_marked_tuple(self) -> None:
        self.push(tuple(self._pop_to_mark()))

    def append(self) -> None:
        item = self._pop()
        self._extend([item])

    def extend(self) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Value]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise Unreadable("the pickle appends to something that is no list")
        target.extend(items)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def set_items(self) -> None:
        self._set_items(self._pop_to_mark())

    def _set_items(self, flat: list[Value]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(flat) % 2:
            raise Unreadable("the pickle sets an item of something that is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            # Only cheap hashes: that of a tuple of tuples of tuples can take for ever.
            if not isinstance(key, str | int | float | Inert | None):
                raise Unreadable("the pickle holds a dict key that is neither text nor a number")
            target[key] = value

    def push_global(self) -> None:
        module, name = self._line(), self._line()
        self._push_named(module, name)

    def push_stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Unreadable("the pickle names a global by something that is no text")
        self._push_named(module, name)

    def _line(self) -> str:
        end = self._pickle.find(b"\n", self._at, self._at + 1_024)
        if end < 0:
            raise Unreadable("the pickle ends too early")
        line = self._take(end - self._at)
        self.skip(1)
        return line.decode("latin-1")

    def _push_named(self, module: str, name: str) -> None:
        path = f"{module}.{name}"
        if path in _STORAGES:
            self.push(_StorageType(path))
            return
        if path in self._inert:
            self.push(Named(path))
            return
        try:
            self.push(_Global(path))
        except ValueError:
            raise Unreadable(
                f"the pickle names the Python object {quoted(path)}, and nothing is imported from an upload; "
                "save only tensors: torch.save(model.state_dict(), path)"
            ) from None

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(arguments, tuple):
            raise Unreadable("the pickle calls with something that is no tuple")
        if function is _Global.ORDERED_DICT and arguments == ():
            self.push({})
        elif function is _Global.REBUILD_TENSOR:
            self.push(_rebuilt(arguments))
        elif function is _Global.REBUILD_PARAMETER and arguments and isinstance(arguments[0], StoredTensor):
            self.push(arguments[0])
        elif isinstance(function, Named):
            self.push(Inert(function.name, arguments))
        else:
            raise Unreadable("the pickle makes a call that no state dict needs")

    def make_object(self) -> None:
        if not (len(self._stack) >= 2 and isinstance(self._stack[-2], Named)):
            raise Unreadable(
                "the pickle makes a Python object; save only tensors: torch.save(model.state_dict(), path)"
            )
        self.reduce()

    def build(self) -> None:
        # torch.nn hangs the versions of its modules on the state dict; any other attribute is an attack or a mistake.
        state, target = self._pop(), self._top()
        if isinstance(target, Inert) and target.state is None:
            target.state = state
            return
        if not isinstance(target, dict) or not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise Unreadable("the pickle sets attributes of an object, which no state dict needs")

    def push_storage(self) -> None:
        match self._pop():
            case ("storage", _StorageType(name=name), str(key), str(), int(numel)) if numel >= 0:
                self.push(StoredNumbers(_STORAGES[name], name == "torch.BoolStorage", key, numel))
            case _:
                raise Unreadable("the pickle refers to something outside that is no plain storage of numbers")


def _rebuilt(arguments: tuple[Value, ...]) -> StoredTensor:
    match arguments:
        # Before anything goes over them: one long tuple can be the size of a million tensors.
        case (_, _, tuple(size), tuple(stride), *_) if max(len(size), len(stride)) > MAX_RANK:
            raise Unreadable(f"a tensor of the pickle has more than {MAX_RANK} dimensions")
        case (StoredNumbers() as numbers, int(offset), tuple(size), tuple(stride), *_) if (
            len(size) == len(stride)
            and all(type(each) is int for each in (*size, *stride))
            and min((offset, *size, *stride)) >= 0
        ):
            return StoredTensor(
                numbers,
                offset,
                tuple(extent for extent in size if isinstance(extent, int)),
                tuple(step for step in stride if isinstance(step, int)),
            )
        case _:
            raise Unreadable("the pickle describes a tensor wrongly")


_Action = Callable[[_Machine], None]
_ACTIONS: Mapping[bytes, _Action] = {
    b"\x80": lambda m: m.skip(1),  # PROTO
    b"\x95": lambda m: m.skip(8),  # FRAME
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push_unpacked("<i", 4),
    b"K": lambda m: m.push_unpacked("<B", 1),
    b"M": lambda m: m.push_unpacked("<H", 2),
    b"G": lambda m: m.push_unpacked(">d", 8),
    b"\x8a": _Machine.push_long,
    b"X": lambda m: m.push_text(4),
    b"\x8c": lambda m: m.push_text(1),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"(": lambda m: m.push(_Mark.MARK),
    b"\x85": lambda m: m.make_tuple(1),
    b"\x86": lambda m: m.make_tuple(2),
    b"\x87": lambda m: m.make_tuple(3),
    b"t": _Machine.make_marked_tuple,
    b"q": lambda m: m.remember_at(1),
    b"r": lambda m: m.remember_at(4),
    b"\x94": _Machine.remember_next,
    b"h": lambda m: m.recall(1),
    b"j": lambda m: m.recall(4),
    b"a": _Machine.append,
    b"e": _Machine.extend,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"c": _Machine.push_global,
    b"\x93": _Machine.push_stack_global,
    b"R": _Machine.reduce,
    b"\x81": _Machine.make_object,
    b"b": _Machine.build,
    b"Q": _Machine.push_storage,
}
