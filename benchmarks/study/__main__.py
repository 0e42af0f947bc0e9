"""`python -m benchmarks.study [PART …]`: ask the service what is known of critical points, and store its answers.

Every part, or those named, goes into docs/figures/data/study.json; `python -m docs.figures.study` draws it and
`python -m benchmarks.study.page` puts its tables into docs/study.md. `--small` does a little of everything in half a minute and is
stored only where `--output` says.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import torch

import saddlescope
from benchmarks.peers.environment import REPOSITORY
from benchmarks.services import running_service
from benchmarks.study import autoencoder, classes, edge, escape_time, ladder, lecture, pennington_bahri
from benchmarks.study.scale import FULL, SMALL, Scale
from examples.way_out import machine
from saddlescope import Client

RESULTS = REPOSITORY / "docs" / "figures" / "data" / "study.json"
PARTS: Mapping[str, Callable[[Client, Scale], dict[str, object]]] = {
    "lecture": lecture.run,
    "ladder": ladder.run,
    "autoencoder": autoencoder.run,
    "pennington_bahri": pennington_bahri.run,
    "escape_time": escape_time.run,
    "classes": classes.run,
    "edge": edge.run,
}


def study(names: Sequence[str], scale: Scale, *, num_workers: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Part after part its answers, with when, where and with what they were made."""
    torch.set_num_threads(1)
    settings = {"SADDLESCOPE_EMBEDDED_WORKERS": str(num_workers), "SADDLESCOPE_WORKER_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory(prefix="saddlescope-") as folder,
        running_service(Path(folder), settings) as service,
        Client(service.url, progress=False) as client,
    ):
        for name in names:
            began = time.perf_counter()
            answers = PARTS[name](client, scale)
            seconds = time.perf_counter() - began
            print(f"{name}: {seconds:.1f} s", flush=True)
            yield name, {"seconds": round(seconds, 1), "scale": scale.name, **_origin(num_workers), **answers}


def _origin(num_workers: int) -> dict[str, object]:
    versions = {"python": python_version(), "torch": torch.__version__, "saddlescope": saddlescope.__version__}
    versions["scikit-learn"] = version("scikit-learn")
    where = machine() | {"workers": num_workers}
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": where, "versions": versions}


def store(target: Path, name: str, answers: dict[str, object]) -> None:
    """Put a part's answers in the place of its earlier ones; the other parts stay."""
    together = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    together[name] = answers
    ordered = {part: together[part] for part in PARTS if part in together}
    target.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--small", action="store_true", help="a little of everything, to see that it works")
    parser.add_argument(
        "--output", type=Path, help="where the answers go; docs/figures/data/study.json without --small"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the service; one a core without it")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    target = given.output or (None if given.small else RESULTS)
    scale = SMALL if given.small else FULL
    for name, answers in study(given.parts or list(PARTS), scale, num_workers=given.workers):
        if target is not None:
            store(target, name, answers)


if __name__ == "__main__":
    main()
