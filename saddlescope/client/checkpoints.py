"""Moving a checkpoint file along an escape direction, in the file's own format."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.results import EscapeDirection

if TYPE_CHECKING:
    from torch import Tensor

# As the workers read them: what was analysed can be written back.
_NESTED_UNDER = ("state_dict", "model", "model_state_dict")


def apply_to_file(escape: EscapeDirection, source: Path, target: Path) -> float:
    """Write θ + step·u as `target` in the format of `source`, and return the loss measured there.

    The format is found from the bytes: safetensors, a state dict of `torch.save` (also under `state_dict`, `model` or
    `model_state_dict`; everything else in the file is kept), or .npz. The target appears when it is whole, and may be
    the source.

    Raises:
        ValueError: if the file is none of these, or its tensors do not fit the direction.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        loss = _apply(escape, source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return loss


def _apply(escape: EscapeDirection, source: Path, target: Path) -> float:
    with source.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        return _apply_to_npz(escape, source, target) if _is_npz(source) else _apply_to_torch(escape, source, target)
    if len(start) == 9 and start[8:9] == b"{":
        return _apply_to_safetensors(escape, source, target)
    raise ValueError(f"{source} is no safetensors file, no state dict of torch.save and no .npz")


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile as broken:
        raise ValueError(f"{path} is cut short or damaged: {broken}") from None


def _apply_to_safetensors(escape: EscapeDirection, source: Path, target: Path) -> float:
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  this is no dict
    loss = escape.apply_(tensors)
    save_file(tensors, target, metadata=metadata)
    return loss


def _apply_to_torch(escape: EscapeDirection, source: Path, target: Path) -> float:
    import torch  # noqa: PLC0415  only a checkpoint of torch needs it

    try:
        checkpoint: object = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{source} holds more than tensors and plain values, which is not loaded, since it could run code; move its "
            "state dict alone: torch.save(model.state_dict(), path)"
        ) from None
    loss = escape.apply_(_state_dict(checkpoint, escape.vector, source))
    torch.save(checkpoint, target)
    return loss


def _state_dict(checkpoint: object, vector: Mapping[str, Tensor], source: Path) -> MutableMapping[str, Tensor]:
    if isinstance(checkpoint, MutableMapping):
        for candidate in (checkpoint, *(checkpoint.get(name) for name in _NESTED_UNDER)):
            if isinstance(candidate, MutableMapping) and vector.keys() <= candidate.keys():
                return candidate
    raise ValueError(f"{source} holds no state dict with the tensors of the direction")


def _apply_to_npz(escape: EscapeDirection, source: Path, target: Path) -> float:
    import numpy as np  # noqa: PLC0415  only an .npz needs it
    import torch  # noqa: PLC0415

    with np.load(source, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    loss = escape.apply_(tensors)
    # Not np.savez: it takes names as keyword arguments, so that a tensor could not be called "file".
    with zipfile.ZipFile(target, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, tensor.numpy(), allow_pickle=False)
    return loss
