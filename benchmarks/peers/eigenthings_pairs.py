"""hessian-eigenthings: its own Lanczos tridiagonalization, asked once for both ends.

Its `lanczos` gives one end a call and takes a number of steps, not a tolerance. So that it need not run twice, the public
`lanczos_tridiagonal` is called once and the Ritz pairs of both ends are formed here, as `lanczos` forms them; the number
of steps is the smallest that suffices, found beforehand off the clock (`calibrate`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from hessian_eigenthings import HessianOperator, lanczos_tridiagonal
from torch import Tensor, nn

from benchmarks.peers.models import Subject
from benchmarks.peers.question import PAIRS_AT_EACH_END
from benchmarks.peers.subject import Answer, Setting


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    criterion = nn.CrossEntropyLoss()

    def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        value: Tensor = criterion(network(batch[0]), batch[1])
        return value

    operator = HessianOperator(subject.network, list(subject.batches), loss)
    operator.matvec(torch.ones(operator.size))

    def solve(seed: int, setting: Setting) -> Answer:
        start = torch.randn(operator.size, generator=torch.Generator().manual_seed(seed))
        found = lanczos_tridiagonal(
            operator, start, int(setting["num_steps"]), reorthogonalize=bool(setting["reorthogonalize"])
        )
        off = found.betas[: found.iterations - 1]
        tridiagonal = torch.diag(found.alphas) + torch.diag(off, 1) + torch.diag(off, -1)
        _, coefficients = torch.linalg.eigh(tridiagonal)
        ends = torch.cat([coefficients[:, :PAIRS_AT_EACH_END], coefficients[:, -PAIRS_AT_EACH_END:]], dim=1)
        vectors = torch.zeros(ends.shape[1], operator.size)
        for row, vector in zip(ends, found.basis, strict=True):
            vectors.addr_(row, vector)
        return Answer({"vectors": vectors}, found.iterations)

    return solve
