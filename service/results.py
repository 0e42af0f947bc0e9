"""What a finished job left: report, spectrum, escape directions, landscape, and all of it as one archive."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import IO, Annotated, TypeVar

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse

import saddlescope
from saddlescope.contract.reports import Landscape, Report, Spectrum
from service.access import Reader
from service.artifacts import blob_response
from service.bodies import BLOCK_BYTES
from service.charts import contour_chart, spectrum_chart
from service.jobs import job_or_404
from service.parts import Parts, PartsOf
from service.problems import JobNotFinished, NotFound
from service.spectra import spectrum_csv, spectrum_npz
from service.svg import SVG_HEADERS, SVG_MEDIA_TYPE, Picture, standalone
from service.validation import artifact_ids
from service.views import report_view, validated_json
from store.blobs import Blob
from store.jobs import find_request
from store.reports import StoredReport, find_report

router = APIRouter(tags=["results"])
Value = TypeVar("Value")
EscapeNumber = Annotated[int, Path(ge=0, le=10_000)]


class SpectrumFormat(StrEnum):
    JSON = "json"
    CSV = "csv"
    NPZ = "npz"
    SVG = "svg"


class LandscapeFormat(StrEnum):
    JSON = "json"
    SVG = "svg"


@router.get("/v1/jobs/{job_id}/report", response_model=Report)
def get_report(request: Request, job_id: str, parts: PartsOf, principal: Reader) -> Response:
    """The verdict and every number that it rests on."""
    stored = stored_report(parts, principal.project, job_id)
    return validated_json(request, report_view(stored.report, job_id).model_dump_json())


@router.get("/v1/jobs/{job_id}/spectrum", response_model=Spectrum)
def get_spectrum(request: Request, job_id: str, parts: PartsOf, principal: Reader) -> Response:
    """All eigenvalues when exact, else Ritz pairs; the density beside them."""
    return get_spectrum_as(request, job_id, SpectrumFormat.JSON, parts, principal)


@router.get("/v1/jobs/{job_id}/spectrum.{form}", response_class=Response)
def get_spectrum_as(request: Request, job_id: str, form: SpectrumFormat, parts: PartsOf, principal: Reader) -> Response:
    """The spectrum as JSON, CSV, NumPy archive or picture."""
    spectrum = read_spectrum(parts, stored_report(parts, principal.project, job_id), job_id)
    match form:
        case SpectrumFormat.JSON:
            return validated_json(request, spectrum.model_dump_json())
        case SpectrumFormat.CSV:
            return Response(spectrum_csv(spectrum), media_type="text/csv; charset=utf-8")
        case SpectrumFormat.NPZ:
            return Response(spectrum_npz(spectrum), media_type="application/zip", headers=_attached(job_id, "npz"))
        case SpectrumFormat.SVG:
            return picture_response(spectrum_chart(spectrum), job_id)


@router.get("/v1/jobs/{job_id}/escapes/{number}.safetensors", response_class=Response)
def get_escape(job_id: str, number: EscapeNumber, parts: PartsOf, principal: Reader) -> Response:
    """The unit direction u under the checkpoint's own names; its metadata holds `step`."""
    stored = stored_report(parts, principal.project, job_id)
    if number >= len(stored.escape_blobs):
        raise NotFound(f"The job has {len(stored.escape_blobs)} escape directions, counted from 0.")
    return blob_response(parts, _blob(parts, stored.escape_blobs[number]), file_name=f"{job_id}-{number}.safetensors")


@router.get("/v1/jobs/{job_id}/landscape", response_model=Landscape)
def get_landscape(request: Request, job_id: str, parts: PartsOf, principal: Reader) -> Response:
    """The loss on a plane through θ, beside its quadratic model on the same grid."""
    return get_landscape_as(request, job_id, LandscapeFormat.JSON, parts, principal)


@router.get("/v1/jobs/{job_id}/landscape.{form}", response_class=Response)
def get_landscape_as(
    request: Request, job_id: str, form: LandscapeFormat, parts: PartsOf, principal: Reader
) -> Response:
    """The landscape as JSON or picture."""
    landscape = read_landscape(parts, stored_report(parts, principal.project, job_id), job_id)
    if landscape is None:
        raise NotFound("The job was asked for no landscape, or there is none for this verdict.")
    if form is LandscapeFormat.JSON:
        return validated_json(request, landscape.model_dump_json())
    return picture_response(contour_chart(landscape), job_id)


@router.get("/v1/jobs/{job_id}/bundle", response_class=Response)
def get_bundle(job_id: str, parts: PartsOf, principal: Reader) -> Response:
    """One zip archive to recheck the claim elsewhere."""
    stored = stored_report(parts, principal.project, job_id)
    with parts.sessions() as session:
        asked = find_request(session, project=principal.project, job_id=job_id)
    if asked is None:
        raise NotFound("This project has no such job.")
    blobs = {f"escapes/{number}.safetensors": blob for number, blob in enumerate(stored.escape_blobs)}
    blobs["spectrum.json"] = stored.spectrum_blob
    if stored.landscape_blob is not None:
        blobs["landscape.json"] = stored.landscape_blob
    report = report_view(stored.report, job_id)
    digests = {"inputs": artifact_ids(asked), "files": blobs}
    provenance = {
        "job": job_id,
        "service_version": saddlescope.__version__,
        "versions": report.versions,
        "seed": report.numerics.seed,
        "numerics": report.numerics.model_dump(mode="json"),
    }
    # A bundle is handed on, and the address for callbacks may hold a token.
    asked = asked.model_copy(update={"callback_url": None})
    texts = {
        "request.json": asked.model_dump_json(indent=2),
        "report.json": report.model_dump_json(indent=2),
        "digests.json": json.dumps(digests, indent=2),
        "provenance.json": json.dumps(provenance, indent=2),
    }
    # On disk: an escape vector is as large as the checkpoint.
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the answer has been sent
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for name, text in texts.items():
            bundle.writestr(name, text)
        for name, blob in blobs.items():
            with parts.blobs.open(blob) as source, bundle.open(name, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, BLOCK_BYTES)
        sums = _checksums(texts) + "".join(f"{blob.removeprefix('sha256:')}  {name}\n" for name, blob in blobs.items())
        bundle.writestr("SHA256SUMS", sums)
    size = archive.tell()
    archive.seek(0)
    headers = _attached(job_id, "zip") | {"content-length": str(size)}
    return StreamingResponse(_drain(archive), media_type="application/zip", headers=headers)


def stored_report(parts: Parts, project: str, job_id: str) -> StoredReport:
    """Raises NotFound for a job of others, JobNotFinished for one without results."""
    row = job_or_404(parts, project, job_id)
    with parts.sessions() as session:
        stored = find_report(session, project=project, job_id=job_id)
    if stored is None:
        raise JobNotFinished(f"The job is {row.status}; results exist once it has succeeded.")
    return stored


def picture_response(picture: Picture | None, job_id: str) -> Response:
    """A picture by itself, with the job that it is of. Raises NotFound where there is nothing to draw."""
    if picture is None:
        raise NotFound("The report holds no points that could be drawn.")
    return Response(standalone(picture, source=f"Job {job_id}."), media_type=SVG_MEDIA_TYPE, headers=SVG_HEADERS)


def read_spectrum(parts: Parts, stored: StoredReport, job_id: str) -> Spectrum:
    spectrum = _parsed(parts, stored.spectrum_blob, Spectrum.model_validate_json)
    return spectrum.model_copy(update={"job": job_id})


def read_landscape(parts: Parts, stored: StoredReport, job_id: str) -> Landscape | None:
    if stored.landscape_blob is None:
        return None
    landscape = _parsed(parts, stored.landscape_blob, Landscape.model_validate_json)
    return landscape.model_copy(update={"job": job_id})


def _parsed(parts: Parts, blob: str, parse: Callable[[bytes], Value]) -> Value:
    try:
        with parts.blobs.open(blob) as file:
            return parse(file.read())
    except FileNotFoundError:
        raise _gone() from None


def _blob(parts: Parts, blob: str) -> Blob:
    try:
        return Blob(id=blob, size=parts.blobs.size(blob))
    except FileNotFoundError:
        raise _gone() from None


def _gone() -> NotFound:
    return NotFound("The bytes of this result are gone from the blob store; retry the job.")


def _checksums(texts: dict[str, str]) -> str:
    return "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in texts.items())


def _attached(job_id: str, suffix: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{job_id}.{suffix}"'}


def _drain(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK_BYTES):
            yield block
