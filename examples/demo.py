"""The main job, from start to end: start the service, ask it about two saddles, take the ways out.

    python -m examples.demo

On a terminal the service keeps running until Ctrl-C, so that the dashboard can be looked at.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from examples import digits
from examples.embedded import running_service
from saddlescope import AnalysisReport, Client
from saddlescope.client.rendering import report_panel

NUM_STEPS = 300
LEARNING_RATE = 0.5
WAIT_SECONDS = 300.0


def main() -> None:
    arguments = argparse.ArgumentParser(description="Run the service and its main job.")
    arguments.add_argument("--data", type=Path, help="data folder of the service; a temporary one without it")
    arguments.add_argument("--port", type=int, default=0, help="a free one without it")
    given = arguments.parse_args()
    console = Console()
    with ExitStack() as stack:
        folder = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saddlescope-")))
        console.print("Starting database, broker, worker and API …")
        url = stack.enter_context(running_service(folder, port=given.port))
        client = stack.enter_context(Client(url))
        console.print(f"The service is up at {url}\n")
        toy(client, console)
        network(client, console)
        console.print(f"The dashboard shows both jobs: [bold]{url}/[/bold]")
        if sys.stdin.isatty() and sys.stdout.isatty():
            console.print("Ctrl-C stops the service.")
            wait_for_interrupt()
            console.print("Stopping …")


def toy(client: Client, console: Console) -> None:
    """(1 - w1·w2)² at the origin: gradient zero, curvatures ±2, and loss 0 one step of √2 away."""
    console.rule("1. A saddle that can be checked by hand: (1 - w1·w2)² at the origin", align="left")
    job = client.submit({"w1": 0.0, "w2": 0.0}, "(1 - w1*w2)**2", run="toy")
    report = job.wait(WAIT_SECONDS)
    console.print(report_panel(report.report))
    console.print(f"All eigenvalues of the Hessian: {eigenvalues(report)}")
    weights = {"w1": torch.zeros((), dtype=torch.float64), "w2": torch.zeros((), dtype=torch.float64)}
    way_out = report.escapes[0]
    console.print("The way out: " + ", ".join(f"{name} {float(part):+.6f}" for name, part in way_out.vector.items()))
    way_out.apply_(weights)
    measured = float((1 - weights["w1"] * weights["w2"]) ** 2)
    console.print(f"Evaluated here after the step of {way_out.step:.6f}: loss {report.loss:g} → {measured:.3g}\n")


def network(client: Client, console: Console) -> None:
    """A network whose weights are all zero: gradient descent cannot leave, the escape does."""
    console.rule("2. A network on handwritten digits with all weights zero", align="left")
    data = digits.digits()
    start = digits.network_at_zero()
    job = client.submit(start.state_dict(), digits.LOSS, data, run="digits", step=0)
    report = job.wait(WAIT_SECONDS)
    console.print(report_panel(report.report))
    if not report.escapes:
        console.print("The service offers no way out of this point.\n")
        return

    stuck = digits.network_at_zero()
    stuck_loss = digits.descend(stuck, data, num_steps=NUM_STEPS, learning_rate=LEARNING_RATE)
    freed = digits.network_at_zero()
    report.escapes[0].apply_(freed)
    escaped_loss = float(digits.loss_of(freed, data).detach())
    freed_loss = digits.descend(freed, data, num_steps=NUM_STEPS, learning_rate=LEARNING_RATE)

    table = Table(title="Cross entropy over all 1,797 digits, evaluated here", title_justify="left", box=None)
    table.add_column("", style="dim")
    table.add_column("loss", justify="right")
    table.add_column("weights that moved", justify="right")
    descent = f"{NUM_STEPS} steps of gradient descent"
    table.add_row("all weights zero", f"{report.loss:.4f}", "")
    table.add_row(f"{descent} from there", f"{stuck_loss:.4f}", moved_weights(stuck))
    table.add_row("the escape alone", f"{escaped_loss:.4f}", "")
    table.add_row(f"the escape, then {descent}", f"{freed_loss:.4f}", moved_weights(freed))
    console.print(table)
    console.print()


def eigenvalues(report: AnalysisReport) -> str:
    return ", ".join(f"{value:+.6f}" for value in report.spectrum.eigenvalues or ())


def moved_weights(network: torch.nn.Module) -> str:
    """How many entries of the weight matrices are no longer zero; biases are not counted."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim == 2]
    moved = sum(int(matrix.count_nonzero()) for matrix in matrices)
    return f"{moved:,} of {sum(matrix.numel() for matrix in matrices):,}"


def wait_for_interrupt() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
