"""Import and warm in the fork server what every runner needs, so that a job does not wait for it.

The first double backward and the first jvp import sympy and `torch._dynamo`: a second, once, here. A forked
2-parameter Hessian then takes some 10 ms.
"""

from __future__ import annotations

import gc
import importlib

# What torch and NumPy import lazily. A locked runner finds no files: what is not here by then is not there at all.
LAZY_MODULES = ("sympy", "torch._dynamo", "torch.profiler._cupti_monitor", "numpy.ctypeslib")


def resolve_device(setting: str) -> str:
    """`auto` is the first CUDA device if the driver lists one, else the CPU.

    Asks NVML, never the CUDA runtime: a context here would be lost to every runner forked from this process.
    """
    import torch  # noqa: PLC0415

    if setting != "auto":
        return setting
    return "cuda:0" if torch.cuda._device_count_nvml() > 0 and torch.version.cuda is not None else "cpu"


def warm_up(device: str) -> None:
    """Import everything, run one Hessian on the CPU, and leave the process single-threaded for the forks to come."""
    import torch  # noqa: PLC0415

    from saddlescope.curvature.warmup import settle_vector_functions  # noqa: PLC0415

    torch.set_num_threads(1)
    for name in LAZY_MODULES:
        importlib.import_module(name)
    settle_vector_functions()
    if device == "cpu":
        _first_hessian()
    gc.collect()
    # Objects that no collection touches again stay on pages which the runners share.
    gc.freeze()


def _first_hessian() -> None:
    # Only on the CPU: the autograd engine asks once, here, how many CUDA devices there are, and forks keep the answer.
    import torch  # noqa: PLC0415

    def loss(point: torch.Tensor) -> torch.Tensor:
        return (1 - point[0] * point[1]) ** 2

    point = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)
    torch.autograd.grad(gradient.sum(), point)
    hessian = torch.func.hessian(loss)(point.detach())
    torch.linalg.eigh(hessian)
    torch.func.jvp(torch.func.grad(loss), (point.detach(),), (point.detach(),))
