"""A training run as a timeline: a checkpoint every 100 steps goes to the service, and the page of the run shows them side by side.

    python -m examples.timeline                       with a service of its own, until Ctrl-C
    python -m examples.timeline --url http://…        with one that runs already

Training does not wait: a job is submitted and forgotten until the end.
"""

from __future__ import annotations

import argparse
import sys
import threading
import webbrowser
from contextlib import suppress
from urllib.parse import quote

import torch
from rich.console import Console
from rich.table import Table

from examples import digits
from examples.embedded import service_at
from examples.plateaus.cases import momentum, tanh_network
from saddlescope import Client
from saddlescope.client import Job

RUN = "digits-three-layers"
LOSS = {
    "kind": "network",
    "layers": [
        {"type": "linear", "in_features": digits.NUM_PIXELS, "out_features": 8},
        {"type": "tanh"},
        {"type": "linear", "in_features": 8, "out_features": 8},
        {"type": "tanh"},
        {"type": "linear", "in_features": 8, "out_features": digits.NUM_CLASSES},
    ],
    "criterion": {"type": "cross_entropy"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", help="of a service that runs already")
    arguments.add_argument("--steps", type=int, default=1500)
    arguments.add_argument("--every", type=int, default=100)
    given = arguments.parse_args()
    console = Console()
    is_watched = sys.stdin.isatty() and sys.stdout.isatty()
    with service_at(given.url) as url, Client(url) as client:
        show(train_and_submit(client, num_steps=given.steps, every=given.every), console)
        page = f"{url}/runs/{quote(RUN)}"
        console.print(f"The timeline of the run: {page}")
        if is_watched:
            webbrowser.open(page)
        if is_watched and given.url is None:
            console.print("Ctrl-C stops the service.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()


def train_and_submit(client: Client, *, num_steps: int, every: int) -> list[Job]:
    """Gradient descent with momentum from small weights; the jobs of its checkpoints, step 0 included."""
    data = digits.digits()
    network = tanh_network(depth=3, scale=0.05, seed=0, width=8)
    optimizer = momentum(network)
    jobs = []
    for step in range(num_steps + 1):
        if step % every == 0:
            name = "Digits, three layers of 8"
            # Lanczos: the ends of the spectrum are enough for a timeline, and cost a tenth of all eigenvalues.
            asked = client.submit(network.state_dict(), LOSS, data, run=RUN, step=step, run_name=name, method="lanczos")
            jobs.append(asked)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(data["inputs"]), data["targets"])
        loss.backward()
        optimizer.step()
    return jobs


def show(jobs: list[Job], console: Console) -> None:
    table = Table(box=None)
    for heading in ("step", "loss", "gradient", "λ min", "verdict", "advice"):
        table.add_column(heading, justify="left" if heading in ("verdict", "advice") else "right")
    for job in jobs:
        report = job.wait()
        run = job.info.run
        table.add_row(
            "" if run is None else str(run.step),
            f"{report.loss:.4f}",
            f"{report.criticality.gradient_norm:.1e}",
            f"{report.lambda_min.estimate:+.2e}",
            report.verdict.value,
            report.advice.action.value,
        )
    console.print(table)


if __name__ == "__main__":
    main()
