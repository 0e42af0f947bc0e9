"""A sharded safetensors checkpoint as one uncompressed tar: the index and the shards that it names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from workers.faults import quoted
from workers.readers.mapped import MAX_TENSORS, Mapped, Unreadable, strict_json
from workers.readers.safetensors import read_safetensors

_MAX_INDEX_BYTES = 32 * 2**20
_INDEX_SUFFIX = ".safetensors.index.json"


def is_sharded(files: Mapping[str, Mapped]) -> bool:
    """Whether the files of an archive are shards with their index."""
    return any(name.endswith(_INDEX_SUFFIX) for name in files)


def read_sharded(files: Mapping[str, Mapped]) -> dict[str, Tensor]:
    """Tensors of all shards by name.

    Raises:
        Unreadable: unless the archive holds one index, its shards, and each tensor exactly where the index says.
    """
    indices = [name for name in files if name.endswith(_INDEX_SUFFIX)]
    if len(indices) != 1:
        raise Unreadable(
            f"the tar archive holds {len(indices)} files *{_INDEX_SUFFIX}; put in one index and its shards"
        )
    if len(files[indices[0]]) > _MAX_INDEX_BYTES:
        raise Unreadable(f"the index of the shards has more than {_MAX_INDEX_BYTES} bytes")
    index = strict_json(files[indices[0]].read(0, len(files[indices[0]])), "the index of the shards")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or len(weight_map) > MAX_TENSORS:
        raise Unreadable("the index of the shards has no weight_map from tensor names to files")
    folder = indices[0].rpartition("/")[0]
    tensors: dict[str, Tensor] = {}
    for shard in sorted({str(file) for file in weight_map.values()}):
        path = f"{folder}/{shard}" if folder else shard
        if path not in files:
            raise Unreadable(f"the index names the shard {quoted(shard)}, which is not in the tar archive")
        for name, tensor in read_safetensors(files[path]).items():
            if weight_map.get(name) != shard:
                raise Unreadable(f"shard {quoted(shard)} holds {quoted(name)}, which the index does not place there")
            tensors[name] = tensor
    missing = next((name for name in weight_map if name not in tensors), None)
    if missing is not None:
        raise Unreadable(f"the index places {quoted(missing)} in a shard that does not hold it")
    return tensors
