"""curvlinops' Hessian operator under SciPy's `eigsh` (ARPACK): both ends in one call, or one call an end.

ARPACK stops when its residual estimate is at most tol·|θ| for every pair asked, relative to each eigenvalue. The question is
relative to the spectral scale, so tolerances looser than 1e-3 are among the candidates, as are larger Krylov spaces than the
default 20; the fastest that suffices is found beforehand off the clock (`calibrate`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from curvlinops import HessianLinearOperator
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from benchmarks.peers.models import Subject
from benchmarks.peers.question import PAIRS_AT_EACH_END
from benchmarks.peers.subject import Answer, Setting


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    parameters = [parameter for parameter in subject.network.parameters() if parameter.requires_grad]
    hessian = HessianLinearOperator(
        subject.network, nn.CrossEntropyLoss(), parameters, list(subject.batches), check_deterministic=False
    )
    plain = hessian.to_scipy(dtype=np.dtype("float32"))
    num_products = 0

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal num_products
        num_products += 1
        return plain @ vector

    operator = LinearOperator(plain.shape, matvec=product, dtype=np.dtype("float32"))
    product(np.ones(plain.shape[0], dtype=np.float32))

    def solve(seed: int, setting: Setting) -> Answer:
        nonlocal num_products
        num_products = 0
        start = np.random.default_rng(seed).standard_normal(plain.shape[0]).astype(np.float32)
        is_joint = setting["which"] == "BE"
        found = [
            eigsh(
                operator,
                k=2 * PAIRS_AT_EACH_END if is_joint else PAIRS_AT_EACH_END,
                which=which,
                tol=float(setting["tol"]),
                ncv=int(setting["num_basis"]),
                v0=start,
            )[1]
            for which in (("BE",) if is_joint else ("LA", "SA"))
        ]
        vectors = torch.from_numpy(np.ascontiguousarray(np.hstack(found).T))
        return Answer({"vectors": vectors}, num_products)

    return solve
