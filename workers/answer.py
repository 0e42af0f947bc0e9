"""The task of a runner: a request in, the files of its answer out."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from saddlescope.analysis import ProgressUpdate, analyze_problem
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import Stage
from workers.building import build_problem
from workers.protocol import (
    LANDSCAPE_FILE,
    OUTPUT_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    SPECTRUM_FILE,
    ProgressLine,
    Succeeded,
    Task,
    escape_file,
)
from workers.runner import Tell
from workers.saving import earlier_run, saver


def analyze_job(task: Task, tell: Tell) -> Succeeded:
    """Answer one request: report, spectrum, landscape and one safetensors file per escape, in the output folder.

    Raises:
        JobFault: if the checkpoint, the loss or the data do not make an objective.
        AnalysisError: if the objective cannot be analysed.
    """
    folder = Path(task.folder)
    output = folder / OUTPUT_FOLDER
    torch.set_num_threads(task.limits.threads)
    request = JobRequest.model_validate_json((folder / REQUEST_FILE).read_bytes())
    tell(ProgressLine(stage=Stage.LOADING, fraction=0.0, matvecs=0))
    built = build_problem(request, {name: Path(path) for name, path in task.artifacts.items()})
    earlier = earlier_run(task)
    analysis = analyze_problem(
        built.problem,
        request.options,
        device=task.device,
        on_progress=lambda update: tell(_line(update)),
        saved=earlier.saved,
        on_save=saver(task, tell),
        save_every_seconds=task.save_seconds,
        deadline=task.deadline,
    )
    tell(ProgressLine(stage=Stage.STORING, fraction=1.0, matvecs=analysis.report.numerics.num_matvecs))
    report = analysis.report.model_copy(
        update={"warnings": (*built.warnings, *earlier.warnings, *analysis.report.warnings)}
    )
    for index, escape in enumerate(analysis.escapes):
        vector = {name: tensor.detach().cpu().contiguous() for name, tensor in escape.vector.items()}
        metadata = {"format": "pt", "job": task.job, "index": str(index), "step": repr(float(escape.step))}
        save_file(vector, output / escape_file(index), metadata=metadata)
    (output / SPECTRUM_FILE).write_text(analysis.spectrum.model_dump_json(), encoding="utf-8")
    if analysis.landscape is not None:
        (output / LANDSCAPE_FILE).write_text(analysis.landscape.model_dump_json(), encoding="utf-8")
    (output / REPORT_FILE).write_text(report.model_dump_json(), encoding="utf-8")
    return Succeeded(device=report.numerics.device, num_escapes=len(analysis.escapes))


def _line(update: ProgressUpdate) -> ProgressLine:
    return ProgressLine(
        stage=update.stage,
        fraction=update.fraction,
        matvecs=update.matvecs,
        eta_seconds=update.eta_seconds,
        lambda_min=update.lambda_min,
        residual_norm=update.residual_norm,
    )
