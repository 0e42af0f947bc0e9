"""Checkpoints of every format that is taken, found from the bytes and never from a name."""

from __future__ import annotations

from torch import Tensor

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.readers.distributed import is_distributed, read_distributed
from workers.readers.mapped import Mapped, Source, Unreadable, map_file
from workers.readers.npz import read_npz
from workers.readers.safetensors import is_safetensors, read_safetensors
from workers.readers.sharded import is_sharded, read_sharded
from workers.readers.stored_tar import is_tar, read_files
from workers.readers.stored_zip import is_zip, read_members
from workers.readers.torch_save import is_torch_save, read_torch_save

MAX_BYTES = 2**38
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_TAKEN = (
    "a safetensors file, a tar of a sharded safetensors set or of a torch.distributed checkpoint, "
    "a torch.save state dict or an .npz archive"
)


def read_tensors(source: Source, *, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, as views of the mapped file.

    Raises:
        JobFault: `checkpoint_invalid`, saying what is wrong with the bytes and how to mend it.
    """
    try:
        tensors = _read(map_file(source, max_bytes))
    except Unreadable as wrong:
        raise JobFault(
            FailureCode.CHECKPOINT_INVALID, f"the checkpoint cannot be read: {wrong}", "/checkpoint"
        ) from wrong
    if not tensors:
        raise JobFault(FailureCode.CHECKPOINT_INVALID, "the checkpoint holds no tensors", "/checkpoint")
    return tensors


def _read(source: Mapped) -> dict[str, Tensor]:
    if is_zip(source):
        return _read_zip(source)
    if is_tar(source):
        return _read_tar(source)
    if is_safetensors(source):
        return read_safetensors(source)
    start = source.read(0, min(len(source), 16))
    if start.startswith(_LEGACY_TORCH):
        raise Unreadable("it is in the format of torch before 1.6; load it in a recent torch and save it again")
    if start.startswith(b"\x80"):
        raise Unreadable(f"it is a Python pickle, which is never loaded; send {_TAKEN}")
    if start.startswith(b"\x93NUMPY"):
        raise Unreadable("it is a single NumPy array; name your arrays with numpy.savez(path, name=array)")
    if start.startswith(b"\x1f\x8b"):
        raise Unreadable(f"it is compressed with gzip; send it uncompressed: {_TAKEN}")
    raise Unreadable(f"its format is not known; send {_TAKEN}")


def _read_tar(source: Mapped) -> dict[str, Tensor]:
    files = read_files(source)
    if is_sharded(files):
        return read_sharded(files)
    if is_distributed(files):
        return read_distributed(files)
    raise Unreadable(
        "the tar archive holds neither an index *.safetensors.index.json with its shards, "
        "nor the .metadata of a distributed checkpoint with its *.distcp files"
    )


def _read_zip(source: Mapped) -> dict[str, Tensor]:
    members = read_members(source)
    if is_torch_save(members):
        return read_torch_save(members)
    if all(name.endswith(".npy") for name in members):
        return read_npz(members)
    if any(name.endswith("models/model.json") for name in members):
        raise Unreadable("it is a torch.export program; send the weights as the checkpoint and the program as the loss")
    raise Unreadable(f"it is a ZIP archive of something else; send {_TAKEN}")
