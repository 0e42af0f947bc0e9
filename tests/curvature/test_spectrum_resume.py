"""A tridiagonalization that was stopped anywhere goes on to the same bits."""

from __future__ import annotations

import io
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.lanczos import LanczosState, sphere_vector, tridiagonalize

SIZE, STEPS = 500, 25


class Killed(Exception):
    pass


def saved(state: LanczosState) -> bytes:
    buffer = io.BytesIO()
    torch.save(asdict(state), buffer)
    return buffer.getvalue()


def loaded(blob: bytes) -> LanczosState:
    return LanczosState(**torch.load(io.BytesIO(blob), weights_only=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("last", [1, 2, 7, 19, STEPS - 1])
def test_a_resumed_run_equals_the_undisturbed_one_bit_for_bit(last: int, dtype: torch.dtype) -> None:
    spectrum = torch.linspace(-1, 3, SIZE).to(dtype)
    start = sphere_vector(SIZE, generator=torch.Generator().manual_seed(3), dtype=dtype, device=torch.device("cpu"))
    products = 0

    def matvec(v: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return spectrum * v

    whole = tridiagonalize(matvec, start, num_matvecs=STEPS, seed=3)
    blobs: list[bytes] = []

    def keep(state: LanczosState) -> None:
        blobs.append(saved(state))
        if state.step == last:
            raise Killed

    with pytest.raises(Killed):
        tridiagonalize(matvec, start, num_matvecs=STEPS, on_state=keep, state_every_seconds=0.0, seed=3)
    assert len(blobs) == last
    products = 0
    resumed = tridiagonalize(matvec, start, num_matvecs=STEPS, state=loaded(blobs[-1]), seed=3)
    assert products == STEPS - last
    assert torch.equal(resumed.alpha, whole.alpha)
    assert torch.equal(resumed.beta, whole.beta)
    assert torch.equal(resumed.storage, whole.storage)


def test_a_state_of_another_problem_is_refused() -> None:
    start = torch.ones(10, dtype=torch.float64)
    states: list[LanczosState] = []
    tridiagonalize(
        lambda v: v * torch.arange(10), start, num_matvecs=4, on_state=states.append, state_every_seconds=0.0, seed=1
    )
    with pytest.raises(ValueError, match="seed 1"):
        tridiagonalize(lambda v: v, start, num_matvecs=4, state=states[0], seed=2)
    with pytest.raises(ValueError, match="holds"):
        tridiagonalize(lambda v: v, torch.ones(11, dtype=torch.float64), num_matvecs=4, state=states[0], seed=1)


def test_the_state_is_told_no_more_often_than_asked() -> None:
    states: list[LanczosState] = []
    tridiagonalize(lambda v: v * torch.arange(50), torch.ones(50).double(), num_matvecs=20, on_state=states.append)
    assert states == []
