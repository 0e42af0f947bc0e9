"""State dicts out of `torch.save` files (the ZIP format of torch ≥ 1.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from workers.faults import quoted
from workers.readers.mapped import MAX_TENSORS, Mapped, Unreadable, as_bool, checked_name, checked_shape
from workers.readers.pickled import StoredNumbers, StoredTensor, interpret

_MAX_PICKLE_BYTES = 16 * 2**20
NESTED_UNDER = ("state_dict", "model", "model_state_dict")
_View = tuple[int, tuple[int, ...], tuple[int, ...]]


def is_torch_save(members: Mapping[str, Mapped]) -> bool:
    """Whether the members of an archive are those of torch.save."""
    return any(name.endswith("/data.pkl") and name.count("/") == 1 for name in members)


def read_torch_save(members: Mapping[str, Mapped]) -> dict[str, Tensor]:
    """Tensors of the state dict by name; names that shared memory share it again.

    Raises:
        Unreadable: for TorchScript, anything but tensors and plain data, or views that do not fit their storage.
    """
    root, top = _opened(members)
    described = _state_dict(top)
    if len(described) > MAX_TENSORS:
        raise Unreadable(f"the file holds {len(described)} tensors; at most {MAX_TENSORS} are taken")
    return _materialized(described, members, root)


def read_tensor(members: Mapping[str, Mapped]) -> Tensor:
    """The one tensor that was saved.

    Raises:
        Unreadable: for anything else.
    """
    root, top = _opened(members)
    if not isinstance(top, StoredTensor):
        raise Unreadable("it holds something else than one tensor")
    return _materialized({"": top}, members, root)[""]


def _opened(members: Mapping[str, Mapped]) -> tuple[str, object]:
    """The top folder, and what the pickle in it describes."""
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1:
        raise Unreadable("the archive has more than one top folder, which torch.save never writes")
    root = roots.pop()
    if f"{root}/constants.pkl" in members:
        raise Unreadable("this is a TorchScript archive; send the state dict: torch.save(model.state_dict(), path)")
    pickle = members[f"{root}/data.pkl"]
    if len(pickle) > _MAX_PICKLE_BYTES:
        raise Unreadable(f"data.pkl has {len(pickle)} bytes; at most {_MAX_PICKLE_BYTES} are taken")
    order = members.get(f"{root}/byteorder")
    if order is not None and order.read(0, min(len(order), 8)) != b"little":
        raise Unreadable("the checkpoint was written on a big-endian machine; save it again on a little-endian one")
    return root, interpret(pickle.read(0, len(pickle)))


def _state_dict(top: object) -> dict[str, StoredTensor]:
    """The tensors under the usual names of nested state dicts, or else at the top, where a step may lie beside them."""
    if isinstance(top, dict):
        for place in (*(top.get(key) for key in NESTED_UNDER), top):
            if isinstance(place, dict):
                tensors = {
                    checked_name(name): value
                    for name, value in place.items()
                    if isinstance(value, StoredTensor) and isinstance(name, str)
                }
                if tensors:
                    return tensors
    under = ", ".join(repr(key) for key in NESTED_UNDER)
    raise Unreadable(f"the file holds no state dict: no tensors by name, neither at the top nor under {under}")


def _materialized(described: Mapping[str, StoredTensor], members: Mapping[str, Mapped], root: str) -> dict[str, Tensor]:
    storages: dict[str, tuple[StoredNumbers, Tensor]] = {}
    views: dict[str, dict[_View, Tensor]] = {}
    num_viewed: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in described.items():
        numbers = tensor.numbers
        if numbers.key not in storages:
            storages[numbers.key] = (numbers, _storage(numbers, members.get(f"{root}/data/{numbers.key}"), name))
        known, flat = storages[numbers.key]
        if known != numbers:
            raise Unreadable(f"the storage of tensor {quoted(name)} is described in two different ways")
        view = _checked_view(tensor, name)
        of_storage = views.setdefault(numbers.key, {})
        if view not in of_storage:
            offset, size, stride = view
            of_storage[view] = torch.as_strided(flat, size, stride, offset) if math.prod(size) else flat.new_empty(size)
            num_viewed[numbers.key] = num_viewed.get(numbers.key, 0) + math.prod(size)
        tensors[name] = of_storage[view]
        # Views that are equal are one tied parameter. Others must be disjoint: they cannot outgrow their storage.
        if num_viewed[numbers.key] > numbers.numel:
            raise Unreadable(
                f"tensor {quoted(name)} shares memory with other tensors without being equal to them; "
                "save copies: {name: tensor.clone() for name, tensor in state_dict.items()}"
            )
    return tensors


def _storage(numbers: StoredNumbers, record: Mapped | None, name: str) -> Tensor:
    if record is None:
        raise Unreadable(f"the storage of tensor {quoted(name)} is missing from the archive")
    if len(record) != numbers.numel * numbers.dtype.itemsize:
        raise Unreadable(
            f"the storage of tensor {quoted(name)} should have {numbers.numel} numbers, "
            f"but its record has {len(record)} bytes"
        )
    flat = record.flat(numbers.dtype)
    return as_bool(flat) if numbers.is_bool else flat


def _checked_view(tensor: StoredTensor, name: str) -> _View:
    """Offset, size and stride, inside the storage and without repeating entries."""
    size = checked_shape(tensor.size, name)
    if math.prod(size) == 0:
        return 0, size, tuple(1 for _ in size)
    stride = tuple(step if extent > 1 else 1 for step, extent in zip(tensor.stride, size, strict=True))
    if 0 in stride:
        raise Unreadable(f"tensor {quoted(name)} is an expanded view; save tensor.contiguous()")
    last = tensor.offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if last >= tensor.numbers.numel:
        raise Unreadable(f"tensor {quoted(name)} reaches past the end of its storage")
    return tensor.offset, size, stride
