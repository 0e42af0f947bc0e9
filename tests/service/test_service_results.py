"""What a finished job is answered with, in every form."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from fastapi.testclient import TestClient

from saddlescope.contract.reports import Landscape, Report, Spectrum

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
Act = Callable[[str], None]
RESULTS = [
    "report", "spectrum", "spectrum.csv", "spectrum.npz", "spectrum.svg", "landscape", "landscape.svg", "bundle",
    "escapes/0.safetensors", "escapes/0.svg", "contours.svg", "surface.svg", "surface.svg?model=true",
]  # fmt: skip


@pytest.fixture
def queued(client: TestClient) -> str:
    return str(client.post("/v1/jobs", json=TOY).json()["id"])


@pytest.fixture
def done(queued: str, finish: Act) -> str:
    finish(queued)
    return queued


@pytest.mark.parametrize("result", RESULTS)
def test_results_of_an_unfinished_job_are_a_conflict(client: TestClient, queued: str, fail: Act, result: str) -> None:
    for _ in range(2):
        answer = client.get(f"/v1/jobs/{queued}/{result}")
        assert (answer.status_code, answer.json()["code"]) == (409, "job_not_finished")
        if _ == 0:
            fail(queued)


def test_the_report_names_its_job_and_its_vectors(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/report")
    report = Report.model_validate(answer.json())
    assert (report.job, report.verdict) == (done, "saddle")
    escape = report.escapes[0]
    assert escape.url == f"/v1/jobs/{done}/escapes/0.safetensors"
    vector = client.get(escape.url)
    assert f"sha256:{hashlib.sha256(vector.content).hexdigest()}" == escape.vector
    assert client.get(f"/v1/artifacts/{escape.vector}").content == vector.content
    etag = answer.headers["etag"]
    assert client.get(f"/v1/jobs/{done}/report", headers={"If-None-Match": etag}).status_code == 304


def test_a_missing_escape_is_not_found(client: TestClient, done: str) -> None:
    assert client.get(f"/v1/jobs/{done}/escapes/1.safetensors").status_code == 404
    assert client.get(f"/v1/jobs/{done}/escapes/x.safetensors").status_code == 422


def test_every_form_of_the_spectrum_holds_the_same_numbers(client: TestClient, done: str) -> None:
    spectrum = Spectrum.model_validate(client.get(f"/v1/jobs/{done}/spectrum").json())
    assert client.get(f"/v1/jobs/{done}/spectrum.json").json() == client.get(f"/v1/jobs/{done}/spectrum").json()
    rows = list(csv.DictReader(io.StringIO(client.get(f"/v1/jobs/{done}/spectrum.csv").text)))
    arrays = np.load(io.BytesIO(client.get(f"/v1/jobs/{done}/spectrum.npz").content), allow_pickle=False)
    assert spectrum.eigenvalues == (-2.0, 2.0)
    assert tuple(float(row["value"]) for row in rows) == spectrum.eigenvalues
    assert tuple(arrays["eigenvalues"]) == spectrum.eigenvalues
    assert bool(arrays["exact"])
    assert client.get(f"/v1/jobs/{done}/spectrum.exe").status_code == 422


@pytest.mark.parametrize(
    "picture", ["spectrum.svg", "landscape.svg", "contours.svg?model=true", "surface.svg", "escapes/0.svg"]
)
def test_pictures_are_well_formed_and_may_run_nothing(client: TestClient, done: str, picture: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/{picture}")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    tree = ElementTree.fromstring(answer.text)
    names = {node.tag.rpartition("}")[2] for node in tree.iter()}
    assert names >= {"svg", "title", "desc", "style"}
    assert names & {"rect", "path"}
    words = " ".join(node.text or "" for node in tree.iter("{http://www.w3.org/2000/svg}text"))
    assert done in words
    assert not names & {"script", "foreignObject", "image", "a"}


def test_the_landscape_is_the_stored_one(client: TestClient, done: str) -> None:
    landscape = Landscape.model_validate(client.get(f"/v1/jobs/{done}/landscape").json())
    assert landscape.job == done
    assert landscape.loss[1][1] == 1.0


def test_the_bundle_can_be_rechecked_by_its_own_sums(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/bundle")
    bundle = zipfile.ZipFile(io.BytesIO(answer.content))
    sums = dict(line.split("  ")[::-1] for line in bundle.read("SHA256SUMS").decode().splitlines())
    assert set(bundle.namelist()) == {*sums, "SHA256SUMS"}
    assert set(sums) >= {"request.json", "report.json", "spectrum.json", "landscape.json", "escapes/0.safetensors"}
    for name, digest in sums.items():
        assert hashlib.sha256(bundle.read(name)).hexdigest() == digest
    assert json.loads(bundle.read("request.json"))["loss"] == TOY["loss"] | {"reduction": "mean", "weight_decay": 0.0}
    assert json.loads(bundle.read("provenance.json"))["seed"] == 0


def test_bytes_that_are_gone_are_not_found(client: TestClient, done: str, parts: object) -> None:
    from service.parts import Parts  # noqa: PLC0415 - narrows the fixture

    assert isinstance(parts, Parts)
    report = client.get(f"/v1/jobs/{done}/report").json()
    parts.blobs.delete(report["escapes"][0]["vector"])
    assert client.get(f"/v1/jobs/{done}/escapes/0.safetensors").status_code == 404
