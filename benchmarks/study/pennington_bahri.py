"""The share of negative eigenvalues of random Hessians by their energy (Pennington, Bahri 2017).

H = JJᵀ/m + √(2ε)·W: a Wishart matrix with n/m = φ beside a Wigner matrix of radius 2. In the limit of large n its Stieltjes
transform g at z solves z = 1/g + 1/(1 − φg) + 2εg, and no eigenvalue is negative below ε_c = (1 − 20φ − 8φ² + (1 + 8φ)^{3/2})/16.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.scale import Scale
from saddlescope import Client

PHI = 0.25
NUM_NODES = 4_000
QUADRATIC = "0.5 * sum((unit @ w) * (row @ w))"
"""½ wᵀHw as a sum over the rows of H and of the identity."""


def run(client: Client, scale: Scale) -> dict[str, object]:
    critical = critical_energy(PHI)
    energies = [share * critical for share in scale.energies]
    n = scale.num_dimensions
    questions = [
        Question(
            {"w": torch.zeros(n, dtype=torch.float64)},
            {"kind": "expression", "expression": QUADRATIC, "reduction": "sum"},
            {"unit": torch.eye(n, dtype=torch.float64), "row": random_hessian(n, energy=energy, seed=step)},
            "pennington-bahri",
            step,
            {"method": "dense"},
        )
        for step, energy in enumerate(energies)
    ]
    return {
        "phi": PHI,
        "critical_energy": significant(critical),
        "num_dimensions": n,
        "points": [
            {
                "energy": significant(energy),
                "index_of_theory": significant(index(energy, PHI)),
                "report": counted(report),
            }
            for energy, report in zip(energies, ask(client, questions), strict=True)
        ],
    }


def critical_energy(phi: float) -> float:
    return (1 - 20 * phi - 8 * phi**2 + (1 + 8 * phi) ** 1.5) / 16


def random_hessian(n: int, *, energy: float, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    m = round(n / PHI)
    jacobian = torch.randn(n, m, generator=draws, dtype=torch.float64)
    wigner = torch.randn(n, n, generator=draws, dtype=torch.float64)
    return jacobian @ jacobian.T / m + math.sqrt(2 * energy) * (wigner + wigner.T) / math.sqrt(2 * n)


def index(energy: float, phi: float) -> float:
    """The mass below zero of the limit's density −Im g/π, by the midpoint rule."""
    lowest = -2 * math.sqrt(2 * energy)  # H ⪰ √(2ε)·W
    width = -lowest / NUM_NODES
    return sum(density(lowest + (node + 0.5) * width, energy, phi) for node in range(NUM_NODES)) * width


def density(z: float, energy: float, phi: float) -> float:
    roots = np.roots([-2 * energy * phi, 2 * energy + z * phi, 1 - phi - z, 1])
    return float(np.abs(roots.imag).max()) / math.pi
