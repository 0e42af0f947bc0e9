"""From POST to the way out of the lecture's saddle, through every part of the running service.

On the embedded parts, and on those of production: PostgreSQL, and blobs in a bucket.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from e2e_service import TOY, Service, running_service
from safetensors import safe_open
from safetensors.numpy import save
from servers import CREDENTIALS, database


@pytest.fixture(scope="module", params=["embedded", "production"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with ExitStack() as stack:
        settings: dict[str, str] = {}
        if request.param == "production":
            settings |= CREDENTIALS
            settings["SADDLESCOPE_DATABASE_URL"] = stack.enter_context(database(request.getfixturevalue("postgresql")))
            settings["SADDLESCOPE_BLOBS_URL"] = request.getfixturevalue("object_store").bucket()
        yield stack.enter_context(running_service(tmp_path_factory.mktemp("e2e") / "data", settings))


@pytest.fixture(scope="module")
def saddle(service: Service) -> dict[str, object]:
    job = service.post(TOY | {"force": True}, wait=30)
    assert job["status"] == "succeeded", job
    return job


def test_the_origin_of_the_lecture_s_loss_is_a_proved_saddle(service: Service, saddle: dict[str, object]) -> None:
    report = service.client.get(f"/v1/jobs/{saddle['id']}/report").raise_for_status().json()
    assert (report["verdict"], report["advice"]["action"]) == ("saddle", "escape")
    assert report["job"] == saddle["id"]
    assert report["evidence"]["strength"] == "proved"
    assert report["inertia"] | {"zero_tol": None} == {
        "negative": 1, "zero": 0, "positive": 1, "zero_tol": None, "exact": True,
    }  # fmt: skip
    assert report["lambda_min"]["estimate"] == pytest.approx(-2)
    assert report["lambda_max"]["estimate"] == pytest.approx(2)


def test_the_downloaded_escape_has_the_loss_it_promises(
    service: Service, saddle: dict[str, object], tmp_path: pytest.TempPathFactory
) -> None:
    report = service.client.get(f"/v1/jobs/{saddle['id']}/report").json()
    (escape,) = report["escapes"]
    file = tmp_path / "escape.safetensors"
    file.write_bytes(service.client.get(escape["url"]).raise_for_status().content)
    with safe_open(file, "np") as tensors:
        direction = {name: float(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118
        step = float(tensors.metadata()["step"])
    assert direction["w1"] ** 2 + direction["w2"] ** 2 == pytest.approx(1)
    assert step == escape["step"]
    loss = (1 - step * direction["w1"] * step * direction["w2"]) ** 2
    assert loss == pytest.approx(escape["loss_after"], abs=1e-12)
    assert loss < 0.01


def test_spectrum_and_landscape_belong_to_the_job(service: Service, saddle: dict[str, object]) -> None:
    spectrum = service.client.get(f"/v1/jobs/{saddle['id']}/spectrum.json").raise_for_status().json()
    assert spectrum["job"] == saddle["id"]
    assert spectrum["eigenvalues"] == pytest.approx([-2, 2])
    landscape = service.client.get(f"/v1/jobs/{saddle['id']}/landscape.json").raise_for_status().json()
    assert landscape["job"] == saddle["id"]
    assert len(landscape["loss"]) == len(landscape["y"])


def test_history_tells_the_way_of_the_job(service: Service, saddle: dict[str, object]) -> None:
    events = service.client.get(f"/v1/jobs/{saddle['id']}/events").raise_for_status().json()
    types = [event["type"] for event in (events["data"] if isinstance(events, dict) else events)]
    assert types[:2] == ["job.queued", "job.started"]
    assert types[-1] == "job.succeeded"


def test_a_bad_loss_fails_the_job_with_words_and_the_next_job_succeeds(service: Service) -> None:
    wrong = TOY | {"checkpoint": {"inline": {"w1": 0.0, "w2": [0.0, 1.0]}}}
    failed = service.post(wrong, wait=30)
    assert failed["status"] == "failed"
    assert failed["error"]["code"] in {"loss_invalid", "parameter_mismatch"}
    assert service.post(TOY | {"force": True}, wait=30)["status"] == "succeeded"


def test_uploaded_bytes_reach_the_runner_and_its_vectors_come_back(service: Service) -> None:
    """Every blob goes through the store: checkpoint and data in, spectrum, landscape and escape out."""
    files = {
        "weights": save({"w": np.zeros((3, 1))}),
        "rows": save({"x": np.eye(3), "y": np.ones((3, 1))}),
    }
    wanted = {"kind": "expression", "expression": "mean((y - x @ w * dot(w, w))**2)"}
    request = {"checkpoint": {"part": "weights"}, "data": {"part": "rows"}, "loss": wanted}
    job = service.client.post(
        "/v1/jobs", files={"request": (None, json.dumps(request)), **files}, headers={"Prefer": "wait=30"}
    ).json()
    assert job["status"] == "succeeded", job
    known = service.client.head(f"/v1/artifacts/sha256:{hashlib.sha256(files['weights']).hexdigest()}")
    assert known.headers["content-length"] == str(len(files["weights"]))
    bundle = service.client.get(f"/v1/jobs/{job['id']}/bundle").raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        sums = archive.read("SHA256SUMS").decode().splitlines()
        assert len(sums) > 4
        for digest, name in (line.split("  ") for line in sums):
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest


def test_the_service_knows_that_a_worker_is_there(service: Service) -> None:
    assert service.client.get("/readyz").status_code == 200
