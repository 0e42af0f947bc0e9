"""Data sets: named tensors that share their first dimension."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.readers.checkpoint import MAX_BYTES
from workers.readers.mapped import Mapped, Source, Unreadable, map_file
from workers.readers.npz import read_npz
from workers.readers.safetensors import is_safetensors, read_safetensors
from workers.readers.stored_zip import is_zip, read_members
from workers.readers.torch_save import is_torch_save


def read_data(source: Source, *, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Tensors of a data set by name, from safetensors or .npz.

    Raises:
        JobFault: `data_invalid`, saying what is wrong with the bytes and how to mend it.
    """
    try:
        tensors = _read(map_file(source, max_bytes))
    except Unreadable as wrong:
        raise _invalid(f"the data cannot be read: {wrong}") from wrong
    check_rows(tensors)
    return tensors


def check_rows(tensors: Mapping[str, Tensor]) -> None:
    """Every tensor has the same, positive number of rows.

    Raises:
        JobFault: `data_invalid` otherwise.
    """
    if not tensors:
        raise _invalid("the data holds no tensors")
    rows = {name: tensor.shape[0] if tensor.dim() else None for name, tensor in tensors.items()}
    (first, expected), *others = rows.items()
    for name, count in rows.items():
        if count is None:
            raise _invalid(f"data tensor {quoted(name)} is a single number; its first dimension must be the examples")
        if count == 0:
            raise _invalid(f"data tensor {quoted(name)} has no rows")
    for name, count in others:
        if count != expected:
            raise _invalid(f"data tensors {quoted(first)} and {quoted(name)} have {expected} and {count} rows")


def _invalid(detail: str) -> JobFault:
    return JobFault(FailureCode.DATA_INVALID, detail, "/data")


def _read(source: Mapped) -> dict[str, Tensor]:
    if is_safetensors(source):
        return read_safetensors(source)
    if is_zip(source):
        members = read_members(source)
        if is_torch_save(members):
            raise Unreadable("it is a torch.save file; send data as safetensors or with numpy.savez")
        if all(name.endswith(".npy") for name in members):
            return read_npz(members)
    raise Unreadable("its format is not known; send safetensors or an archive of numpy.savez")
