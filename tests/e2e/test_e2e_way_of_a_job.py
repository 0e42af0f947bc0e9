"""From POST to the way out of the lecture's saddle, through every part of the running service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e_service import TOY, Service, running_service
from safetensors import safe_open


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("e2e") / "data") as service:
        yield service


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


def test_the_service_knows_that_a_worker_is_there(service: Service) -> None:
    assert service.client.get("/readyz").status_code == 200
