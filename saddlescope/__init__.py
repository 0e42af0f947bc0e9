"""Saddlescope: is training stuck at a minimum or a saddle, and what is the way out?

    report = saddlescope.analyze(loss, params, data)        # here, in this process
    client = saddlescope.Client("http://127.0.0.1:8000")    # by a service

Names are imported on first use, so that `import saddlescope` costs a training script nothing and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saddlescope import callbacks, tracking
    from saddlescope.analysis import analyze
    from saddlescope.client import Client
    from saddlescope.client.export import export_loss
    from saddlescope.distributed import analyze_distributed
    from saddlescope.results import AnalysisReport

__version__ = "0.1.0"
__all__ = [
    "AnalysisReport",
    "Client",
    "__version__",
    "analyze",
    "analyze_distributed",
    "callbacks",
    "export_loss",
    "tracking",
]

_MODULES = ("callbacks", "tracking")
_HOMES = {
    "AnalysisReport": "saddlescope.results",
    "Client": "saddlescope.client",
    "analyze": "saddlescope.analysis",
    "analyze_distributed": "saddlescope.distributed",
    "export_loss": "saddlescope.client.export",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"saddlescope.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'saddlescope' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
