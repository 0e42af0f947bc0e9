"""Linear families of generators that may be symmetries of a loss: what networks and products of factors are known to have.

A generator A moves θ by exp(sA). A family is spanned by some A_j; its tangents A_jθ are what a kernel may hold of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.objective import Objective

UNUSED = "entries that L does not depend on"
FLAT_AXIS = 1e-12
MAX_GROUPS = 40
MAX_FACTOR_RANK = 16
MAX_PAIRED_TENSORS = 8

Act = Callable[[Tensor, Tensor], Tensor]  # (coefficients (d,), point (n,)) to exp(Σ c_j A_j) point (n,)


@dataclass(frozen=True)
class Family:
    """A linear family of generators: `tangents` (n, d) are the A_jθ."""

    name: str
    tangents: Tensor
    act: Act


def families(objective: Objective, kernel: Tensor) -> Iterator[Family]:
    """Every family worth trying on a kernel (n, m), the most general and the cheapest first."""
    theta = objective.theta
    pieces = objective.tensors(torch.arange(theta.numel(), device=theta.device))
    seen: set[int] = set()
    places: dict[str, Tensor] = {}  # each variable once, though tied ones have several names
    for name, place in pieces.items():
        if place.numel() and int(place.reshape(-1)[0]) not in seen:
            seen.add(int(place.reshape(-1)[0]))
            places[name] = place
    yield Family("translation", kernel, lambda chosen, point: point + kernel @ chosen)
    yield from _entry_scaling(theta, kernel)
    yield from _unused(kernel, places)
    yield from _shifts(theta, places)
    yield from _tensor_scalings(theta, places)
    yield from _unit_scalings(theta, places)
    yield from _factors(theta, places)


def _unused(kernel: Tensor, places: Mapping[str, Tensor]) -> Iterator[Family]:
    """Entries whose axes lie in the kernel, all of them, then a tensor's, then a slice's."""
    is_flat = kernel.square().sum(1) >= 1 - FLAT_AXIS
    if is_flat.any():
        yield _replaced(kernel, is_flat.nonzero()[:, 0])
        groups = [place.reshape(-1) for place in places.values()]
        groups += [
            piece.reshape(-1)
            for place in places.values()
            if place.dim() > 1
            for d in range(place.dim())
            for piece in place.movedim(d, 0)
        ]
        flat_groups = [group for group in groups if bool(is_flat[group].all())]
        for group in flat_groups[:MAX_GROUPS]:
            yield _replaced(kernel, group)


def _replaced(kernel: Tensor, entries: Tensor) -> Family:
    """Entries that may hold anything: they are replaced by unrelated values, which saturation at θ would not survive."""
    tangents = kernel.new_zeros(kernel.shape[0], entries.numel())
    tangents[entries, torch.arange(entries.numel(), device=kernel.device)] = 1.0

    def replace(chosen: Tensor, point: Tensor) -> Tensor:
        moved = point.clone()
        moved[entries] = chosen.to(point) / chosen.abs().max() * (10.0 if chosen[0] > 0 else 1.0)
        return moved

    return Family(UNUSED, tangents, replace)


def _entry_scaling(theta: Tensor, kernel: Tensor) -> Iterator[Family]:
    """θ_i → exp(w_i)θ_i with diag(w)θ in the kernel, as for a product of many weights."""
    if theta.all():
        logs = kernel / theta[:, None]
        name = "rescaling of entries against each other"
        yield Family(name, kernel, lambda chosen, point: point * torch.exp(logs @ chosen))


def _log_scaling(name: str, theta: Tensor, logs: Tensor) -> Family:
    """θ_i → exp(w_i)θ_i, w a combination of the columns of `logs` (n, d)."""
    return Family(name, theta[:, None] * logs, lambda chosen, point: point * torch.exp(logs @ chosen.to(logs)))


def _shifts(theta: Tensor, places: Mapping[str, Tensor]) -> Iterator[Family]:
    """θ_b + 1⊗c along a dimension of θ_b, as softmax allows along its classes."""
    for name, place in places.items():
        for dimension in range(place.dim()):
            lines = place.movedim(dimension, 0).reshape(place.shape[dimension], -1)  # (C, d)
            if lines.shape[0] < 2:
                continue
            tangents = theta.new_zeros(theta.numel(), lines.shape[1])
            tangents[lines, torch.arange(lines.shape[1], device=theta.device).expand_as(lines)] = 1.0
            yield Family(
                f"shift of {name} along dimension {dimension}",
                tangents,
                lambda chosen, point, tangents=tangents: point + tangents @ chosen.to(tangents),  # type: ignore[misc]
            )


def _tensor_scalings(theta: Tensor, places: Mapping[str, Tensor]) -> Iterator[Family]:
    """One tensor against another, with exact exponents ±1, then any exponents."""
    logs = theta.new_zeros(theta.numel(), len(places))
    for column, place in enumerate(places.values()):
        logs[place.reshape(-1), column] = 1.0
    if len(places) <= MAX_PAIRED_TENSORS:
        for (i, a), (j, b) in itertools.combinations(enumerate(places), 2):
            yield _log_scaling(f"rescaling of {a} against {b}", theta, logs[:, i : i + 1] - logs[:, j : j + 1])
    yield _log_scaling(f"rescaling of tensors ({', '.join(places)})", theta, logs)


def _slice_logs(theta: Tensor, place: Tensor, dimension: int) -> Tensor:
    """(n, r): column i marks slice i of a tensor along a dimension."""
    logs = theta.new_zeros(theta.numel(), place.shape[dimension])
    for index, entries in enumerate(place.movedim(dimension, 0)):
        logs[entries.reshape(-1), index] = 1.0
    return logs


def _unit_scalings(theta: Tensor, places: Mapping[str, Tensor]) -> Iterator[Family]:
    """Slices of a tensor alone (normalisation), or of one against those of another, with a bias or without."""
    axes = [(name, d) for name, place in places.items() for d in range(place.dim())]
    for name, d in axes:
        yield _log_scaling(f"scale of {name} along dimension {d}", theta, _slice_logs(theta, places[name], d))
    for (a, i), (b, j) in itertools.permutations(axes, 2):
        size = places[a].shape[i]
        if a == b or places[b].shape[j] != size or (places[a].dim() == 1 and places[b].dim() > 1):
            continue
        against = _slice_logs(theta, places[a], i) - _slice_logs(theta, places[b], j)
        biases = [c for c, place in places.items() if c not in (a, b) and tuple(place.shape) == (size,)]
        for bias in [None, *biases]:
            logs = against if bias is None else against + _slice_logs(theta, places[bias], 0)
            with_bias = f" with {bias}" if bias else ""
            yield _log_scaling(f"rescaling of units of {a}{with_bias} against {b}", theta, logs)


def _factors(theta: Tensor, places: Mapping[str, Tensor]) -> Iterator[Family]:
    """A → exp(X)A along one dimension of a matrix, B → exp(−Xᵀ)B along one of another: their contraction stays."""
    matrices = [(name, place) for name, place in places.items() if place.dim() == 2]
    for (a, first), (b, second) in itertools.permutations(matrices, 2):
        for i, j in itertools.product((0, 1), repeat=2):
            rank = first.shape[i]
            if rank != second.shape[j] or not 1 < rank <= MAX_FACTOR_RANK:
                continue
            left, right = first.movedim(i, 0), second.movedim(j, 0)  # (r, k), (r, l)
            biases = [c for c, place in places.items() if tuple(place.shape) == (rank,)]
            if a < b:
                yield _factor_family(f"GL({rank}) between {a} and {b}", theta, (left,), right)
            for bias in biases:
                name = f"GL({rank}) between {a} with {bias} and {b}"
                yield _factor_family(name, theta, (left, places[bias][:, None]), right)


def _factor_family(name: str, theta: Tensor, left: tuple[Tensor, ...], right: Tensor) -> Family:
    rank = right.shape[0]
    columns = []
    for row, column in itertools.product(range(rank), repeat=2):
        tangent = torch.zeros_like(theta)
        for place in left:
            tangent[place[row]] += theta[place[column]]
        tangent[right[column]] -= theta[right[row]]
        columns.append(tangent)

    def act(chosen: Tensor, point: Tensor) -> Tensor:
        generator = chosen.to(point).reshape(rank, rank)
        moved, forward = point.clone(), torch.linalg.matrix_exp(generator)
        for place in left:
            moved[place] = forward @ point[place]
        moved[right] = torch.linalg.matrix_exp(-generator.T) @ point[right]
        return moved

    return Family(name, torch.stack(columns, dim=1), act)
