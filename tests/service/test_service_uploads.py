"""Resumable uploads: tus 1.0.0 to the letter, and an artifact that is there whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.parts import Parts
from service.settings import Auth
from store.keys import Scope, create_key
from store.staging import open_staging
from store.uploads import expire_uploads

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = TUS | {"Content-Type": "application/offset+octet-stream"}
CONTENT = bytes(range(256)) * 9000  # more than two blocks


def id_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def checksum(content: bytes) -> dict[str, str]:
    return {"Upload-Checksum": f"sha256 {base64.b64encode(hashlib.sha256(content).digest()).decode()}"}


def create(client: TestClient, content: bytes = CONTENT, **headers: str) -> str:
    """The path of a new upload for so many bytes."""
    answer = client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(len(content))} | headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"].removeprefix("http://localhost")


def send(client: TestClient, path: str, offset: int, content: bytes, **headers: str):
    return client.patch(path, content=content, headers=CHUNK | {"Upload-Offset": str(offset)} | headers)


def offset_of(client: TestClient, path: str) -> int:
    return int(client.head(path, headers=TUS).headers["upload-offset"])


def staged(parts: Parts) -> list[Path]:
    return list(parts.staging.folder.iterdir())


def test_parts_sent_one_after_another_are_one_artifact(client: TestClient, parts: Parts) -> None:
    path = create(client)
    for start in range(0, len(CONTENT), 700_001):
        assert offset_of(client, path) == start
        answer = send(client, path, start, CONTENT[start : start + 700_001])
        assert answer.status_code == 204
        assert ("saddlescope-artifact" in answer.headers) == (start + 700_001 >= len(CONTENT))
    assert answer.headers["upload-offset"] == str(len(CONTENT))
    assert answer.headers["saddlescope-artifact"] == id_of(CONTENT)
    assert client.get(f"/v1/artifacts/{id_of(CONTENT)}").content == CONTENT
    told = client.get(path).json()
    assert (told["object"], told["offset"], told["artifact"]) == ("upload", len(CONTENT), id_of(CONTENT))
    assert client.head(path, headers=TUS).headers["saddlescope-artifact"] == id_of(CONTENT)
    assert staged(parts) == []


def test_the_bytes_may_come_with_the_announcement(client: TestClient) -> None:
    answer = client.post("/v1/uploads", content=CONTENT[:1000], headers=CHUNK | {"Upload-Length": str(len(CONTENT))})
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "1000")
    whole = client.post("/v1/uploads", content=CONTENT, headers=CHUNK | {"Upload-Length": str(len(CONTENT))})
    assert (whole.status_code, whole.headers["saddlescope-artifact"]) == (201, id_of(CONTENT))


def test_an_empty_upload_is_done_when_it_is_announced(client: TestClient) -> None:
    path = create(client, b"")
    assert client.head(path, headers=TUS).headers["saddlescope-artifact"] == id_of(b"")


def test_the_service_tells_what_it_takes_of_the_protocol(client: TestClient, parts: Parts) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    told = {key: value for key, value in answer.headers.items() if key.startswith("tus-")}
    assert told == {
        "tus-resumable": "1.0.0",
        "tus-version": "1.0.0",
        "tus-extension": "creation,creation-with-upload,expiration,checksum,termination",
        "tus-max-size": str(parts.settings.max_artifact_bytes),
        "tus-checksum-algorithm": "sha256,sha1",
    }


def test_a_head_gives_back_what_was_said_of_the_upload(client: TestClient) -> None:
    said = f"filename {encoded('model.pt')},is_final,sha256 {encoded(id_of(CONTENT))}"
    head = client.head(create(client, **{"Upload-Metadata": said}), headers=TUS)
    assert head.status_code == 200
    assert (head.headers["upload-metadata"], head.headers["upload-length"]) == (said, str(len(CONTENT)))
    assert (head.headers["upload-offset"], head.headers["cache-control"]) == ("0", "no-store")
    parsedate_to_datetime(head.headers["upload-expires"])


@pytest.mark.parametrize("named", [id_of(CONTENT), id_of(CONTENT).removeprefix("sha256:")])
def test_a_whole_that_is_what_was_declared_is_taken(client: TestClient, named: str) -> None:
    path = create(client, **{"Upload-Metadata": f"sha256 {encoded(named)}"})
    assert send(client, path, 0, CONTENT).headers["saddlescope-artifact"] == id_of(CONTENT)


def test_a_whole_that_is_not_what_was_declared_leaves_nothing(client: TestClient, parts: Parts) -> None:
    path = create(client, **{"Upload-Metadata": f"sha256 {encoded(id_of(b'other'))}"})
    answer = send(client, path, 0, CONTENT)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert client.head(path, headers=TUS).status_code == 404
    assert client.head(f"/v1/artifacts/{id_of(CONTENT)}").status_code == 404
    assert staged(parts) == []


def test_a_part_with_another_checksum_is_taken_back(client: TestClient) -> None:
    path = create(client)
    assert send(client, path, 0, CONTENT[:10], **checksum(CONTENT[:10])).status_code == 204
    wrong = send(client, path, 10, CONTENT[10:], **checksum(b"other"))
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["tus-resumable"]) == (
        460,
        "checksum_mismatch",
        "1.0.0",
    )
    assert offset_of(client, path) == 10
    right = send(client, path, 10, CONTENT[10:], **checksum(CONTENT[10:]))
    assert right.headers["saddlescope-artifact"] == id_of(CONTENT)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Offset": "3"}, 409, "offset_mismatch"),
        ({"Upload-Offset": "-1"}, 400, "bad_request"),
        ({"Upload-Offset": ""}, 400, "bad_request"),
        ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"Tus-Resumable": "0.2.2"}, 412, "tus_version_unsupported"),
        ({"Tus-Resumable": ""}, 412, "tus_version_unsupported"),
        ({"Upload-Checksum": "md5 AAAA"}, 400, "bad_request"),
        ({"Upload-Checksum": "sha256 AAAA"}, 400, "bad_request"),
        ({"Upload-Checksum": "sha256 ###"}, 400, "bad_request"),
    ],
)
def test_a_part_that_breaks_the_protocol_is_refused_and_changes_nothing(
    client: TestClient, headers: dict[str, str], status: int, code: str
) -> None:
    path = create(client)
    answer = client.patch(path, content=b"abc", headers=CHUNK | {"Upload-Offset": "0"} | headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert offset_of(client, path) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "x"}, 400),
        ({"Upload-Length": "5", "Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "5", "Upload-Concat": "partial"}, 400),
        ({"Upload-Length": str(2**40)}, 413),
        ({"Upload-Length": "5", "Upload-Metadata": "filename not*base64"}, 400),
        ({"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400),
        ({"Upload-Length": "5", "Upload-Metadata": f"sha256 {encoded('12')}"}, 400),
        ({"Upload-Length": "5", "Tus-Resumable": "2.0.0"}, 412),
    ],
)
def test_an_announcement_that_breaks_the_protocol_is_refused(
    client: TestClient, parts: Parts, headers: dict[str, str], status: int
) -> None:
    assert client.post("/v1/uploads", headers=TUS | headers).status_code == status
    assert staged(parts) == []


def test_more_bytes_than_announced_are_refused(client: TestClient) -> None:
    path = create(client, b"12345")
    assert send(client, path, 0, b"123456").json()["code"] == "artifact_too_large"
    assert offset_of(client, path) == 0

    def unannounced() -> Iterator[bytes]:
        yield b"123456"

    assert client.patch(path, content=unannounced(), headers=CHUNK | {"Upload-Offset": "0"}).status_code == 413
    assert send(client, path, 0, b"12345").headers["saddlescope-artifact"] == id_of(b"12345")


def test_a_terminated_upload_is_gone_and_what_it_became_stays(client: TestClient, parts: Parts) -> None:
    unfinished, finished = create(client), create(client)
    send(client, unfinished, 0, CONTENT[:100])
    send(client, finished, 0, CONTENT)
    for path in (unfinished, finished):
        assert client.delete(path, headers=TUS).status_code == 204
        assert client.head(path, headers=TUS).status_code == 404
        assert send(client, path, 0, CONTENT).status_code == 404
    assert client.head(f"/v1/artifacts/{id_of(CONTENT)}").status_code == 200
    assert staged(parts) == []


def test_a_client_without_patch_and_delete_says_so(client: TestClient) -> None:
    path = create(client, b"abc")
    override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}
    assert client.post(path, content=b"ab", headers=CHUNK | override).headers["upload-offset"] == "2"
    assert client.post(path, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert client.post(path, headers=TUS).status_code == 405


def test_an_upload_goes_on_after_a_restart_from_what_is_durable(client: TestClient, parts: Parts) -> None:
    path = create(client)
    send(client, path, 0, CONTENT[:1_500_000])
    (file,) = staged(parts)
    with file.open("ab") as torn:
        torn.write(b"written and never made durable")
    again = replace(parts, staging=open_staging(parts.blobs))  # what a new process begins with
    restarted = TestClient(create_app(again), base_url="http://localhost")
    assert offset_of(restarted, path) == 1_500_000
    assert send(restarted, path, 1_500_000, CONTENT[1_500_000:]).headers["saddlescope-artifact"] == id_of(CONTENT)
    assert restarted.get(f"/v1/artifacts/{id_of(CONTENT)}").content == CONTENT


def test_an_upload_whose_last_byte_came_before_a_crash_is_finished_by_whoever_asks(
    client: TestClient, parts: Parts
) -> None:
    from store.uploads import advance_upload  # noqa: PLC0415 - a crash between the last byte and the artifact

    path = create(client)
    with parts.staging.open(path.rpartition("/")[2]) as file:
        file.resume(0)
        file.write(CONTENT)
        file.sync()
    with parts.sessions.begin() as session:
        advance_upload(session, path.rpartition("/")[2], offset=len(CONTENT), lifetime_seconds=60)
    assert client.head(path, headers=TUS).headers["saddlescope-artifact"] == id_of(CONTENT)
    assert client.get(f"/v1/artifacts/{id_of(CONTENT)}").content == CONTENT


def test_staged_bytes_that_are_lost_are_told_and_never_made_up(client: TestClient, parts: Parts) -> None:
    path, shorter = create(client), create(client)
    send(client, path, 0, CONTENT[:1000])
    send(client, shorter, 0, CONTENT[:1000])
    upload = {file.name: file for file in staged(parts)}
    upload[path.rpartition("/")[2]].unlink()
    os.truncate(upload[shorter.rpartition("/")[2]], 999)
    for lost in (path, shorter):
        assert send(client, lost, 1000, CONTENT[1000:]).status_code == 404
        assert client.head(lost, headers=TUS).status_code == 404


def test_two_writers_of_one_upload_do_not_mix(client: TestClient, parts: Parts) -> None:
    path = create(client)
    with parts.staging.open(path.rpartition("/")[2]):
        answer = send(client, path, 0, CONTENT)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (423, "upload_locked", True)
    assert send(client, path, 0, CONTENT).headers["saddlescope-artifact"] == id_of(CONTENT)


def test_uploads_of_the_same_bytes_at_once_are_one_artifact(
    client: TestClient, parts: Parts, bytes_on_disk: Callable[[], list[str]]
) -> None:
    paths = [create(client) for _ in range(4)]
    senders = [threading.Thread(target=send, args=(client, path, 0, CONTENT)) for path in paths]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert {client.get(path).json()["artifact"] for path in paths} == {id_of(CONTENT)}
    assert client.get(f"/v1/artifacts/{id_of(CONTENT)}").content == CONTENT
    assert (bytes_on_disk(), staged(parts)) == ([id_of(CONTENT)], [])


def test_an_upload_is_of_its_project_alone_and_needs_the_scope(
    with_settings: Callable[..., TestClient], parts: Parts
) -> None:
    client = with_settings(auth=Auth.KEYS)
    keys = {}
    with parts.sessions.begin() as session:
        for project, scope in (("mine", Scope.SUBMIT), ("theirs", Scope.SUBMIT), ("mine", Scope.READ)):
            key, _ = create_key(session, project=project, scopes=[scope], pepper=parts.pepper)
            keys[project, scope] = {"Authorization": f"Bearer {key}"}
    mine, theirs, reader = keys["mine", Scope.SUBMIT], keys["theirs", Scope.SUBMIT], keys["mine", Scope.READ]
    path = create(client, **mine)
    assert send(client, path, 0, CONTENT, **theirs).status_code == 404
    assert client.head(path, headers=TUS | theirs).status_code == 404
    assert client.delete(path, headers=TUS | theirs).status_code == 404
    assert client.post("/v1/uploads", headers=TUS | {"Upload-Length": "1"} | reader).status_code == 403
    unknown = client.post("/v1/uploads", headers=TUS | {"Upload-Length": "1"})
    assert (unknown.status_code, unknown.headers["tus-resumable"]) == (401, "1.0.0")
    assert client.options("/v1/uploads").status_code == 204
    assert send(client, path, 0, CONTENT, **mine).headers["saddlescope-artifact"] == id_of(CONTENT)
    assert client.get(path, headers=reader).json()["artifact"] == id_of(CONTENT)
    assert client.head(f"/v1/artifacts/{id_of(CONTENT)}", headers=theirs).status_code in (403, 404)


def test_an_upload_that_is_not_gone_on_with_expires(with_settings: Callable[..., TestClient], parts: Parts) -> None:
    client = with_settings(upload_lifetime_seconds=0.001)
    path = create(client)
    for answer in (client.head(path, headers=TUS), send(client, path, 0, CONTENT), client.get(path)):
        assert answer.status_code == 410
    with parts.sessions.begin() as session:
        assert expire_uploads(session, parts.staging) == [path.rpartition("/")[2]]
    assert client.head(path, headers=TUS).status_code == 404
    assert staged(parts) == []


def test_a_project_stores_no_more_than_its_quota_by_any_way(with_settings: Callable[..., TestClient]) -> None:
    client = with_settings(project_quota_bytes=3000)
    known = client.post("/v1/artifacts", content=b"1" * 1000).json()["id"]
    path = create(client, b"2" * 1500)

    def unannounced() -> Iterator[bytes]:
        yield b"3" * 501

    form = (
        b'--cut\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        b'{"checkpoint": {"part": "w"}, "loss": {"kind": "expression", "expression": "w"}}'
        b'\r\n--cut\r\nContent-Disposition: form-data; name="w"\r\n\r\n' + b"4" * 501 + b"\r\n--cut--\r\n"
    )
    over = [
        client.post("/v1/artifacts", content=b"3" * 501),
        client.post("/v1/artifacts", content=unannounced()),
        client.put(f"/v1/artifacts/{id_of(b'3' * 501)}", content=b"3" * 501),
        client.post("/v1/uploads", headers=TUS | {"Upload-Length": "501"}),
        client.post("/v1/jobs", content=form, headers={"Content-Type": "multipart/form-data; boundary=cut"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in over] == [(507, "quota_exceeded")] * 5
    assert client.get("/v1/jobs").json()["data"] == []
    # What was announced has its room, and bytes that are there already cost nothing.
    assert send(client, path, 0, b"2" * 1500).headers["saddlescope-artifact"] == id_of(b"2" * 1500)
    assert client.put(f"/v1/artifacts/{known}", content=b"1" * 1000).status_code == 200
    assert client.post("/v1/artifacts", content=b"5" * 500).status_code == 201
    assert client.post("/v1/artifacts", content=b"6").status_code == 507


def test_an_upload_that_is_given_up_gives_its_room_back(with_settings: Callable[..., TestClient]) -> None:
    client = with_settings(project_quota_bytes=1000)
    path = create(client, bytes(1000))
    assert client.post("/v1/uploads", headers=TUS | {"Upload-Length": "1"}).status_code == 507
    client.delete(path, headers=TUS)
    assert create(client, bytes(1000)) != path
