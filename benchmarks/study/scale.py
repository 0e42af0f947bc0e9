"""How much of the study is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Numbers of networks and steps; `small` shows that everything works, and nothing else."""

    name: str
    num_networks: int
    """Of each activation, in the lecture's figure."""
    num_steps: int
    """Of Adam on L, and as many on ‖g‖."""
    num_searched: int
    """Of each activation, from which a critical point is searched for."""
    num_starts: int
    """Of each rung of the ladder."""
    rungs: tuple[int, ...]
    autoencoders: tuple[tuple[int, int], ...]
    """(n, p): inputs and hidden units; 2np parameters."""
    num_dimensions: int
    """Of Pennington and Bahri's matrices."""
    energies: tuple[float, ...]
    """Relative to the energy below which no eigenvalue is negative."""
    distances: tuple[float, ...]
    """From the saddle, where descent begins."""
    classes: tuple[int, ...]
    """How many of the digits are told apart, three or more."""
    num_class_seeds: int
    learning_rates: tuple[float, ...]
    """Of full-batch gradient descent."""
    num_edge_steps: int


FULL = Scale(
    name="full",
    num_networks=100,
    num_steps=10_000,
    num_searched=20,
    num_starts=40,
    rungs=tuple(range(9)),
    autoencoders=((4, 2), (20, 10), (60, 30), (200, 100), (1000, 500)),
    num_dimensions=800,
    energies=(0.5, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0),
    distances=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7),
    classes=(3, 4, 5, 7, 10),
    num_class_seeds=3,
    learning_rates=(0.5, 1.0, 2.0),
    num_edge_steps=6_000,
)

SMALL = Scale(
    name="small",
    num_networks=3,
    num_steps=60,
    num_searched=1,
    num_starts=4,
    rungs=(0, 1, 8),
    autoencoders=((4, 2),),
    num_dimensions=40,
    energies=(0.2, 5.0),
    distances=(1e-2, 1e-4),
    classes=(3,),
    num_class_seeds=1,
    learning_rates=(1.0,),
    num_edge_steps=10,
)
