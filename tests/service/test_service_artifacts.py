"""Artifacts: bytes named by their hash, per project, in parts, never more than allowed."""

from __future__ import annotations

import base64
import hashlib
import resource
import signal
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from service.artifacts import _byte_range
from service.parts import Parts
from service.problems import RangeNotSatisfiable

CONTENT = bytes(range(256)) * 10


def id_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def stored(client: TestClient) -> str:
    return str(client.post("/v1/artifacts", content=CONTENT).json()["id"])


def test_a_put_is_new_once_and_known_afterwards(client: TestClient) -> None:
    url = f"/v1/artifacts/{id_of(CONTENT)}"
    assert client.head(url).status_code == 404
    assert [client.put(url, content=CONTENT).status_code for _ in range(2)] == [201, 200]
    head = client.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


def test_a_post_answers_the_name_of_the_bytes(client: TestClient) -> None:
    answer = client.post("/v1/artifacts", content=CONTENT)
    assert answer.status_code == 201
    assert answer.json()["id"] == id_of(CONTENT)
    assert answer.json()["size"] == len(CONTENT)
    assert client.get(answer.headers["location"]).content == CONTENT


def test_other_bytes_than_announced_leave_nothing(client: TestClient, parts: Parts) -> None:
    url = f"/v1/artifacts/{id_of(b'other')}"
    answer = client.put(url, content=CONTENT)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert client.head(url).status_code == 404
    assert not parts.blobs.exists(id_of(CONTENT))


def test_an_artifact_over_the_limit_is_refused_whether_or_not_its_length_is_told(
    client: TestClient, parts: Parts, bytes_on_disk: Callable[[], list[str]]
) -> None:
    limit = parts.settings.max_artifact_bytes

    def chunks() -> Iterator[bytes]:
        for _ in range(limit // 2**16 + 1):
            yield bytes(2**16)

    for content in (bytes(limit + 1), chunks()):
        answer = client.post("/v1/artifacts", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "artifact_too_large")
    assert bytes_on_disk() == []


def test_a_malformed_name_is_refused_on_put_and_unknown_on_get(client: TestClient) -> None:
    assert client.put("/v1/artifacts/sha256:12", content=CONTENT).status_code == 422
    assert client.get("/v1/artifacts/sha256:12").status_code == 404


def test_the_bytes_come_with_their_digest_for_ever(client: TestClient, stored: str) -> None:
    answer = client.get(f"/v1/artifacts/{stored}")
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/v1/artifacts/{stored}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=2550-", 2550, 2560), ("bytes=-4", 2556, 2560), ("bytes=10-99999", 10, 2560)],
)
def test_a_range_is_cut_as_the_rfc_says(client: TestClient, stored: str, asked: str, start: int, end: int) -> None:
    answer = client.get(f"/v1/artifacts/{stored}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


def test_a_range_behind_the_end_is_not_satisfiable(client: TestClient, stored: str) -> None:
    answer = client.get(f"/v1/artifacts/{stored}", headers={"Range": "bytes=2560-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */2560"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=9-2", "bytes=-", "bytes=1-2,5-6", "bytes=x"])
def test_a_range_that_is_not_understood_is_ignored(client: TestClient, stored: str, asked: str) -> None:
    answer = client.get(f"/v1/artifacts/{stored}", headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


def test_a_stale_if_range_gets_the_whole(client: TestClient, stored: str) -> None:
    answer = client.get(f"/v1/artifacts/{stored}", headers={"Range": "bytes=0-1", "If-Range": '"old"'})
    assert answer.status_code == 200


def test_a_byte_range_is_the_slice_of_the_bytes() -> None:
    """Against Python's own slices, for every range of a small artifact."""
    content = bytes(range(7))
    for first in range(7):
        for last in range(first, 10):
            found = _byte_range(f"bytes={first}-{last}", 7)
            assert found is not None
            assert content[slice(*found)] == content[first : last + 1]
    for length in range(1, 10):
        found = _byte_range(f"bytes=-{length}", 7)
        assert found is not None
        assert content[slice(*found)] == content[-length:]
    with pytest.raises(RangeNotSatisfiable):
        _byte_range("bytes=-5", 0)


def test_an_empty_artifact_is_an_artifact(client: TestClient) -> None:
    stored = client.post("/v1/artifacts", content=b"").json()["id"]
    assert client.get(f"/v1/artifacts/{stored}").content == b""


def test_a_content_encoding_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/artifacts", content=CONTENT, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_full_disk_is_told(with_settings: Callable[..., TestClient], bytes_on_disk: Callable[[], list[str]]) -> None:
    # RLIMIT_FSIZE gives a real EFBIG from the kernel, as a quota would.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    client = with_settings(max_artifact_bytes=2**30)
    client.get("/healthz")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        answer = client.post("/v1/artifacts", content=bytes(2**22))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert bytes_on_disk() == []


def digest_header(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.mark.parametrize("header", ["Repr-Digest", "Content-Digest"])
def test_a_digest_header_is_held_against_the_bytes(client: TestClient, header: str) -> None:
    unknown = f"{digest_header(CONTENT)}, sha-512=:AAAA:"
    assert client.post("/v1/artifacts", content=CONTENT, headers={header: unknown}).status_code == 201
    wrong = client.post("/v1/artifacts", content=b"damaged", headers={header: digest_header(CONTENT)})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "digest_mismatch")
    assert client.head(f"/v1/artifacts/{id_of(b'damaged')}").status_code == 404
    other = client.put(f"/v1/artifacts/{id_of(b'x')}", content=b"x", headers={header: digest_header(CONTENT)})
    assert (other.status_code, other.json()["code"]) == (422, "digest_mismatch")


@pytest.mark.parametrize("garbled", ["sha-256=abc", "sha-256=:YWJj:", "sha-256=:?:", "sha-256", ""])
def test_a_digest_header_that_cannot_be_understood_is_refused(client: TestClient, garbled: str) -> None:
    answer = client.post("/v1/artifacts", content=CONTENT, headers={"Repr-Digest": garbled})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
