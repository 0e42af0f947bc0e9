"""The results of a job, fetched when they are first read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.client.answers import parse
from saddlescope.client.errors import NotFound
from saddlescope.client.transport import Call, Params, Transport
from saddlescope.contract.reports import Landscape, Report, Spectrum
from saddlescope.results import AnalysisReport

if TYPE_CHECKING:
    from torch import Tensor


def fetch_report(transport: Transport, job_id: str) -> AnalysisReport:
    """The report of a finished job.

    Raises:
        Conflict: if the job has not succeeded.
    """
    report = parse(Report, transport.send(Call("GET", f"/v1/jobs/{job_id}/report")).content)
    return AnalysisReport(
        report,
        spectrum=partial(fetch_spectrum, transport, job_id),
        landscape=partial(_fetch_landscape, transport, job_id),
        vectors=[partial(_fetch_vector, transport, job_id, escape.index) for escape in report.escapes],
    )


def fetch_spectrum(transport: Transport, job_id: str) -> Spectrum:
    return parse(Spectrum, transport.send(Call("GET", f"/v1/jobs/{job_id}/spectrum.json")).content)


def download(transport: Transport, path: str, target: Path, *, params: Params | None = None) -> None:
    """Write an answer to a file, which appears when it is whole; in constant memory.

    Raises:
        ConnectionFailed: if the connection broke.
        ApiError: if the service refuses.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with transport.stream(Call("GET", path, params=params)) as response, part.open("wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def fetch_escape(transport: Transport, job_id: str, index: int) -> bytes:
    """The direction as safetensors."""
    # Built here and not taken from the report's url: the key goes to this service alone.
    return transport.send(Call("GET", f"/v1/jobs/{job_id}/escapes/{index}.safetensors")).content


def _fetch_landscape(transport: Transport, job_id: str) -> Landscape | None:
    try:
        answer = transport.send(Call("GET", f"/v1/jobs/{job_id}/landscape.json"))
    except NotFound:
        return None
    return parse(Landscape, answer.content)


def _fetch_vector(transport: Transport, job_id: str, index: int) -> dict[str, Tensor]:
    from safetensors.torch import load  # noqa: PLC0415  only a vector needs torch

    return load(fetch_escape(transport, job_id, index))
