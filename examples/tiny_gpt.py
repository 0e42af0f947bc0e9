"""A tiny GPT on the letters of a licence: trained until it stands, asked about by a service, escaped, and trained on.

    python -m examples.tiny_gpt

The loss is exported, not described: the service runs a `torch.export` archive and never sees the model's code.
"""

from __future__ import annotations

import argparse
import copy

import torch
from rich.console import Console
from rich.table import Table

import saddlescope
from examples.embedded import service_at
from examples.plateaus import cases
from examples.plateaus.gpt import next_token_loss
from examples.plateaus.training import train
from saddlescope.client.rendering import report_panel

SHOWN_EVERY = 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", help="of a service that runs already; one of its own without it")
    arguments.add_argument("--steps", type=int, default=160, help="from the plateau on")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    console = Console()
    torch.set_num_threads(1)
    plateau = cases.letters(given.seed)
    task, model = plateau.task, plateau.model
    size = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"{size:,} parameters; after {plateau.num_steps} steps the loss stands.")

    example = {name: tensor[:8] for name, tensor in task.data.items()}
    program = saddlescope.export_loss(model, next_token_loss, example)
    with service_at(given.url) as url, saddlescope.Client(url) as client:
        job = client.submit(
            model.state_dict(),
            program,
            task.data,
            run="tiny-gpt",
            step=plateau.num_steps,
            density=False,
            landscape=False,
        )
        report = job.wait()
        console.print(report_panel(report.report))
        escaped = copy.deepcopy(model)
        if not report.escapes:
            console.print("The service offers no way out of this point.")
            return
        report.escapes[0].apply_(escaped)

    alone = train(model, task, plateau.optimizer_for(model), num_steps=given.steps)
    freed = train(escaped, task, task.optimizer(escaped), num_steps=given.steps)
    table = Table(title="Loss over all rows", title_justify="left", box=None)
    for heading in ("steps from the plateau", "alone", "escaped"):
        table.add_column(heading, justify="right")
    for step in range(0, given.steps + 1, SHOWN_EVERY):
        table.add_row(str(step), f"{alone[step]:.4f}", f"{freed[step]:.4f}")
    console.print(table)


if __name__ == "__main__":
    main()
