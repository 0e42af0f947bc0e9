"""The task of a runner: a request in, the files of its answer out."""

from __future__ import annotations

import os

import torch

from saddlescope.analysis import ProgressUpdate, analyze_problem
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import Stage
from workers.building import build_problem
from workers.openings import Openings, open_files
from workers.protocol import LANDSCAPE_FILE, REPORT_FILE, SPECTRUM_FILE, ProgressLine, Succeeded, Task, escape_file
from workers.runner import Deed, Tell
from workers.saving import earlier_run, saver
from workers.vectors import safetensors_pieces


def analyze_job(task: Task, opened: Openings, tell: Tell) -> Succeeded:
    """Answer one request: report, spectrum, landscape and one safetensors file per escape.

    Raises:
        JobFault: if the checkpoint, the loss or the data do not make an objective.
        AnalysisError: if the objective cannot be analysed.
    """
    torch.set_num_threads(task.limits.threads)
    with os.fdopen(opened.request, "rb") as file:
        request = JobRequest.model_validate_json(file.read())
    tell(ProgressLine(stage=Stage.LOADING, fraction=0.0, matvecs=0))
    built = build_problem(request, opened.artifacts)
    earlier = earlier_run(opened)
    analysis = analyze_problem(
        built.problem,
        request.options,
        device=task.device,
        on_progress=lambda update: tell(_line(update)),
        saved=earlier.saved,
        on_save=saver(task, opened, tell),
        save_every_seconds=task.save_seconds,
        deadline=task.deadline,
    )
    tell(ProgressLine(stage=Stage.STORING, fraction=1.0, matvecs=analysis.report.numerics.num_matvecs))
    report = analysis.report.model_copy(
        update={
            "warnings": (*built.warnings, *earlier.warnings, *analysis.report.warnings),
            "numerics": analysis.report.numerics.model_copy(update={"sandbox": task.sandbox}),
        }
    )
    for index, escape in enumerate(analysis.escapes):
        metadata = {"format": "pt", "job": task.job, "index": str(index), "step": repr(float(escape.step))}
        for piece in safetensors_pieces(escape.vector, metadata):
            opened.write(escape_file(index), piece)
    opened.write(SPECTRUM_FILE, analysis.spectrum.model_dump_json().encode())
    if analysis.landscape is not None:
        opened.write(LANDSCAPE_FILE, analysis.landscape.model_dump_json().encode())
    opened.write(REPORT_FILE, report.model_dump_json().encode())
    return Succeeded(device=report.numerics.device, num_escapes=len(analysis.escapes))


ANALYSIS = Deed(open=open_files, perform=analyze_job)
"""What the runners of a worker do."""


def _line(update: ProgressUpdate) -> ProgressLine:
    return ProgressLine(
        stage=update.stage,
        fraction=update.fraction,
        matvecs=update.matvecs,
        eta_seconds=update.eta_seconds,
        lambda_min=update.lambda_min,
        residual_norm=update.residual_norm,
    )
