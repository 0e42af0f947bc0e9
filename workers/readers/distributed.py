"""Checkpoints of torch.distributed.checkpoint: a pickled `.metadata` and the pieces in `*.distcp` files that it names.

The pickle is interpreted over inert descriptors. A piece is a tensor as torch.save writes it, at a place in a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from workers.faults import quoted
from workers.readers.mapped import MAX_TENSORS, Mapped, Unreadable, checked_name, checked_shape
from workers.readers.pickled import Inert, Named, interpret
from workers.readers.stored_zip import is_zip, read_members
from workers.readers.torch_save import NESTED_UNDER, is_torch_save, read_tensor

_METADATA = ".metadata"
_MAX_METADATA_BYTES = 32 * 2**20
_MODULE = "torch.distributed.checkpoint"
_DTYPES = {
    str(dtype): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
_INERT = frozenset(
    {
        *_DTYPES,
        f"{_MODULE}.metadata.Metadata",
        f"{_MODULE}.metadata.MetadataIndex",
        f"{_MODULE}.metadata.TensorStorageMetadata",
        f"{_MODULE}.metadata.BytesStorageMetadata",
        f"{_MODULE}.metadata.ChunkStorageMetadata",
        f"{_MODULE}.metadata.TensorProperties",
        f"{_MODULE}.metadata.StorageMeta",
        f"{_MODULE}.metadata._MEM_FORMAT_ENCODING",
        f"{_MODULE}.filesystem._StorageInfo",
        "torch.Size",
        "torch.serialization._get_layout",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
    }
)
_Key = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Piece:
    """Where the bytes of one chunk lie."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class _Described:
    """A tensor and its chunks, each by its first entry and its shape."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def is_distributed(files: Mapping[str, Mapped]) -> bool:
    """Whether the files of an archive are those of a distributed checkpoint."""
    return any(name.rpartition("/")[2] == _METADATA for name in files)


def read_distributed(files: Mapping[str, Mapped]) -> dict[str, Tensor]:
    """Tensors of the state dict by name, put together from their pieces; what else was saved is ignored.

    Raises:
        Unreadable: unless the pieces of every tensor are all there and cover it exactly once.
    """
    places = [name for name in files if name.rpartition("/")[2] == _METADATA]
    if len(places) != 1:
        raise Unreadable("the tar archive holds more than one distributed checkpoint")
    pickle = files[places[0]]
    if len(pickle) > _MAX_METADATA_BYTES:
        raise Unreadable(f".metadata has {len(pickle)} bytes; at most {_MAX_METADATA_BYTES} are taken")
    metadata = _fields(interpret(pickle.read(0, len(pickle)), inert=_INERT), "metadata.Metadata")
    names = _state_dict_names(metadata)
    pieces = _pieces(metadata.get("storage_data"))
    tensors = _mapping(metadata.get("state_dict_metadata"))
    described = {name: _described(key, tensors[key]) for name, key in names.items()}
    wanted = [(tensor.key, first) for tensor in described.values() for first, _ in tensor.chunks]
    if len(wanted) > MAX_TENSORS:
        raise Unreadable(f"the checkpoint has {len(wanted)} chunks; at most {MAX_TENSORS} are taken")
    _check_apart(wanted, pieces)
    folder = places[0].removesuffix(_METADATA)
    return {name: _assembled(tensor, pieces, files, folder) for name, tensor in described.items()}


def _state_dict_names(metadata: Mapping[object, object]) -> dict[str, str]:
    """Key of each tensor of the state dict by its name there: under a usual name, or else at the top, or else deeper.

    Beside a state dict under its name a tensor at the top is a step, or the state of a generator.
    """
    paths = metadata.get("planner_data")
    under: dict[tuple[object, ...], dict[str, str]] = {}
    for key, entry in _mapping(metadata.get("state_dict_metadata")).items():
        if not isinstance(key, str):
            raise _damaged()
        if isinstance(entry, Inert) and entry.name == f"{_MODULE}.metadata.TensorStorageMetadata":
            path = paths.get(key, (key,)) if isinstance(paths, dict) else (key,)
            # Checked before it is hashed: tuples of tuples can take for ever, and a list has no hash.
            if not isinstance(path, tuple) or not path or not all(isinstance(part, str | int) for part in path):
                raise _damaged()
            if isinstance(path[-1], str):
                under.setdefault(path[:-1], {})[path[-1]] = key
    usual = [place for place in under if not place or place[-1] in NESTED_UNDER]
    for place in sorted(usual, key=lambda place: (len(place) != 1, len(place))):
        return {checked_name(name): key for name, key in under[place].items()}
    names = ", ".join(repr(name) for name in NESTED_UNDER)
    raise Unreadable(f"the checkpoint holds no state dict: no tensors by name, neither at the top nor under {names}")


def _pieces(storage: object) -> dict[_Key, _Piece]:
    pieces: dict[_Key, _Piece] = {}
    for index, info in _mapping(storage).items():
        named, place = _fields(index, "metadata.MetadataIndex"), _fields(info, "filesystem._StorageInfo")
        if named.get("offset") is None:
            continue  # bytes, such as the step of an optimizer
        if place.get("transform_descriptors") not in (None, []):
            raise Unreadable("the pieces of the checkpoint are compressed; save it without extensions")
        match named.get("fqn"), place.get("relative_path"), place.get("offset"), place.get("length"):
            case str(key), str(file), int(offset), int(length) if offset >= 0 and length >= 0:
                at = key, _size(named["offset"], key)
            case _:
                raise _damaged()
        if at in pieces:
            raise Unreadable(f"the checkpoint places a chunk of tensor {quoted(key)} twice")
        pieces[at] = _Piece(file, offset, length)
    return pieces


def _described(key: str, entry: object) -> _Described:
    fields = _fields(entry, "metadata.TensorStorageMetadata")
    shape = _size(fields.get("size"), key)
    match fields.get("properties"), fields.get("chunks"):
        case Inert(name=kind, state=(Named(name=dtype), *_)), list(chunks) if (
            kind == f"{_MODULE}.metadata.TensorProperties" and dtype in _DTYPES
        ):
            pass
        case _:
            raise Unreadable(f"tensor {quoted(key)} is described wrongly, or has a dtype that is not taken")
    found = []
    for chunk in chunks:
        said = _fields(chunk, "metadata.ChunkStorageMetadata")
        first, extents = _size(said.get("offsets"), key), _size(said.get("sizes"), key)
        if not len(first) == len(extents) == len(shape) or any(
            start + extent > whole for start, extent, whole in zip(first, extents, shape, strict=True)
        ):
            raise Unreadable(f"a chunk of tensor {quoted(key)} reaches past its shape")
        found.append((first, extents))
    if sum(math.prod(extents) for _, extents in found) != math.prod(shape):
        raise Unreadable(f"the chunks of tensor {quoted(key)} leave a hole in it or overlap")
    return _Described(key, _DTYPES[dtype], shape, tuple(found))


def _check_apart(wanted: list[_Key], pieces: Mapping[_Key, _Piece]) -> None:
    """No two chunks may be made of the same bytes: a small file could fill the memory."""
    missing = next((key for key, first in wanted if (key, first) not in pieces), None)
    if missing is not None:
        raise Unreadable(f"the checkpoint does not say where a chunk of tensor {quoted(missing)} is")
    if len(set(wanted)) != len(wanted):
        raise Unreadable("a chunk of the checkpoint is named twice")
    ordered = sorted((pieces[at] for at in wanted), key=lambda piece: (piece.file, piece.offset, piece.length))
    for before, after in pairwise(ordered):
        if before.file == after.file and before.offset + before.length > after.offset:
            raise Unreadable("two chunks of the checkpoint lie in the same bytes")


def _assembled(tensor: _Described, pieces: Mapping[_Key, _Piece], files: Mapping[str, Mapped], folder: str) -> Tensor:
    parts = [
        (first, _piece_tensor(tensor, extents, pieces[tensor.key, first], files, folder))
        for first, extents in tensor.chunks
    ]
    if len(parts) == 1:
        return parts[0][1]
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)
    is_covered = torch.zeros(tensor.shape, dtype=torch.bool)
    for first, part in parts:
        window = tuple(slice(start, start + extent) for start, extent in zip(first, part.shape, strict=True))
        if is_covered[window].any():
            raise Unreadable(f"the chunks of tensor {quoted(tensor.key)} overlap")
        is_covered[window] = True
        whole[window] = part
    return whole


def _piece_tensor(
    tensor: _Described, extents: tuple[int, ...], piece: _Piece, files: Mapping[str, Mapped], folder: str
) -> Tensor:
    file = files.get(f"{folder}{piece.file}")
    if file is None:
        raise Unreadable(f"the checkpoint names the file {quoted(piece.file)}, which is not in the archive")
    record = file.part(piece.offset, piece.length)
    if not is_zip(record) or not is_torch_save(members := read_members(record)):
        raise Unreadable(f"a chunk of tensor {quoted(tensor.key)} is not in the format of torch.save")
    part = read_tensor(members)
    if part.dtype != tensor.dtype or part.shape != extents:
        raise Unreadable(f"a chunk of tensor {quoted(tensor.key)} has another dtype or shape than the metadata says")
    return part


def _fields(value: object, kind: str) -> dict[object, object]:
    if not isinstance(value, Inert) or value.name != f"{_MODULE}.{kind}" or not isinstance(value.state, dict):
        raise _damaged()
    return value.state


def _mapping(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise _damaged()
    return value


def _size(value: object, key: str) -> tuple[int, ...]:
    """A torch.Size, or the tuple that it was made of."""
    if isinstance(value, Inert) and value.name == "torch.Size" and len(value.arguments) == 1:
        value = value.arguments[0]
    if not isinstance(value, tuple | list):
        raise _damaged()
    return checked_shape(value, key)


def _damaged() -> Unreadable:
    return Unreadable(".metadata does not describe a distributed checkpoint")
