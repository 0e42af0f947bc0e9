"""A batch as trainers have it, dict, tuple or one tensor, and the names of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "Mapping[str, Tensor] | Sequence[Tensor] | Tensor"


def named(batch: object) -> dict[str, object]:
    """The tensors by name: a dict's own; of one tensor `inputs`, of a pair `inputs` and `targets`, else `input_0`, ….

    The same names are given to the data of a job and to the example of `export_loss`, so that they fit.
    """
    if isinstance(batch, Mapping):
        return dict(batch)
    if not isinstance(batch, tuple | list):
        return {"inputs": batch}
    return dict(zip(_names(len(batch)), batch, strict=True))


def like(example: Batch, tensors: dict[str, Tensor]) -> dict[str, Tensor] | tuple[Tensor, ...] | Tensor:
    """Tensors by name in the form of the example, as the loss function expects them."""
    if isinstance(example, Mapping):
        return tensors
    if isinstance(example, tuple | list):
        return tuple(tensors[name] for name in _names(len(example)))
    return tensors["inputs"]


def _names(count: int) -> tuple[str, ...]:
    return ("inputs", "targets")[:count] if count <= 2 else tuple(f"input_{position}" for position in range(count))
