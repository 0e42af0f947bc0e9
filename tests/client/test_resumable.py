"""Large uploads over connections that break, against a real service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from cutting_proxy import CuttingProxy, cutting
from scripted_server import Answer, ScriptedServer, problem_json

from examples.embedded import running_service
from saddlescope.client import ConnectionFailed, InvalidRequest, ServerError
from saddlescope.client.resumable import upload_resumably
from saddlescope.client.transport import Transport
from saddlescope.client.uploads import Upload, upload_of_bytes, upload_of_file

CONTENT = random.Random(3).randbytes(40 * 2**20)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuttingProxy]:
    with running_service(tmp_path_factory.mktemp("resumable") / "data") as url, cutting(url) as opened:
        yield opened


def send(url: str, upload: Upload) -> None:
    with closing(Transport(url, api_key=None, timeout_seconds=10, retries=2)) as transport:
        upload_resumably(transport, upload)


def stored(proxy: CuttingProxy, upload: Upload) -> bytes:
    return httpx2.get(f"{proxy.url}/v1/artifacts/{upload.artifact}", timeout=60).content


def test_an_upload_that_is_cut_more_often_than_it_is_retried_arrives_as_it_was(
    proxy: CuttingProxy, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(CONTENT)
    upload = upload_of_file(path)
    proxy.cuts, proxy.num_cut = [6 * 2**20] * 5, 0
    send(proxy.url, upload)
    assert proxy.num_cut == 5
    assert stored(proxy, upload) == CONTENT


def test_an_upload_that_never_comes_forward_is_given_up(scripted: ScriptedServer) -> None:
    created = Answer(201, headers={"Location": "http://elsewhere/v1/uploads/upl_1"})
    told = Answer(200, headers={"Upload-Offset": "0"})
    scripted.script = [created, *[Answer(0, drop=True), told] * 2, Answer(0, drop=True)]
    with pytest.raises(ConnectionFailed):
        send(scripted.url, upload_of_bytes(b"abc"))
    methods = [seen.method for seen in scripted.seen]
    assert methods == ["POST", "PATCH", "HEAD", "PATCH", "HEAD", "PATCH"]


def test_a_lost_answer_of_the_last_byte_is_found_by_asking(scripted: ScriptedServer) -> None:
    scripted.script = [
        Answer(201, headers={"Location": "/v1/uploads/upl_1"}),
        Answer(0, drop=True),
        Answer(200, headers={"Upload-Offset": "3", "Saddlescope-Artifact": "sha256:00"}),
    ]
    send(scripted.url, upload_of_bytes(b"abc"))
    assert len(scripted.seen) == 3


@pytest.mark.parametrize(("status", "error"), [(422, InvalidRequest), (507, ServerError)])
def test_what_another_attempt_cannot_mend_is_told_at_once(
    scripted: ScriptedServer, status: int, error: type[Exception]
) -> None:
    scripted.script = [Answer(201, headers={"Location": "/v1/uploads/upl_1"}), Answer(status, problem_json(status))]
    with pytest.raises(error):
        send(scripted.url, upload_of_bytes(b"abc"))
    assert len(scripted.seen) == 2
