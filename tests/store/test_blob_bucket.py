"""What holds for a bucket alone: local copies are checked and bounded, failures are named, secrets stay unsaid."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from servers import CREDENTIALS, ObjectStore

from store.blob_bucket import PART_BYTES
from store.blob_writing import blob_key
from store.blobs import DigestMismatch, StorageUnavailable, open_blobs

ROOT = Path(__file__).resolve().parents[2]


def copies_below(folder: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (folder / "cache" / "sha256").rglob("*") if path.is_file()}


def test_a_blob_of_several_parts_arrives_whole_and_is_copied_in_pieces(bucket_url: str, tmp_path: Path) -> None:
    content = os.urandom(1000) * (3 * PART_BYTES // 1000)
    blobs = open_blobs(bucket_url, local=tmp_path)
    blob = blobs.put(content)
    pieces: list[None] = []
    with blobs.local(blob.id, between=lambda: pieces.append(None)) as path:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(content).hexdigest()
    assert len(pieces) > 3
    with blobs.local(blob.id, between=lambda: pytest.fail("it is here already")):
        pass


def test_two_stores_on_one_bucket_see_each_other_s_blobs_and_other_prefixes_do_not(
    bucket_url: str, tmp_path: Path
) -> None:
    blob = open_blobs(bucket_url, local=tmp_path / "a").put(b"shared")
    assert open_blobs(bucket_url, local=tmp_path / "b").exists(blob.id)
    elsewhere = open_blobs(bucket_url.replace("some/prefix", "other"), local=tmp_path / "c")
    assert not elsewhere.exists(blob.id)
    assert list(elsewhere.walk()) == []


def test_a_damaged_object_never_becomes_a_local_copy(
    bucket_url: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    blobs = open_blobs(bucket_url, local=tmp_path)
    blob = blobs.put(b"as it was")
    bucket = S3Store(bucket_url.split("/")[2], endpoint=object_store.endpoint, client_options={"allow_http": True})
    obstore.put(bucket, f"some/prefix/{blob_key(blob.id)}", b"as it is!")
    with pytest.raises(DigestMismatch), blobs.local(blob.id):
        pass
    assert copies_below(tmp_path) == set()


def test_a_fetch_that_is_ended_leaves_no_copy(bucket_url: str, tmp_path: Path) -> None:
    blobs = open_blobs(bucket_url, local=tmp_path)
    blob = blobs.put(b"long")

    def give_up() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), blobs.local(blob.id, between=give_up):
        pass
    assert copies_below(tmp_path) == set()
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_the_copies_used_least_recently_are_dropped_and_those_in_use_never(bucket_url: str, tmp_path: Path) -> None:
    blobs = open_blobs(bucket_url, local=tmp_path, cache_bytes=2_500)
    first, second, third, fourth = (blobs.put(os.urandom(1_000)).id for _ in range(4))
    for blob in (first, second, first, third):
        with blobs.local(blob):
            pass
    assert copies_below(tmp_path) == {first, third}
    with ExitStack() as in_use:
        paths = [in_use.enter_context(blobs.local(blob)) for blob in (first, second, third, fourth)]
        with open_blobs(bucket_url, local=tmp_path, cache_bytes=1).local(first):
            pass  # another process of a smaller mind, on the same folder
        assert [path.stat().st_size for path in paths] == [1_000] * 4
    assert len(copies_below(tmp_path)) == 2


def test_a_copy_is_kept_for_the_process_that_reads_it_and_no_longer(bucket_url: str, tmp_path: Path) -> None:
    blob = open_blobs(bucket_url, local=tmp_path).put(b"x" * 100)
    program = (
        "import sys\nfrom pathlib import Path\nfrom store.blobs import open_blobs\n"
        f"with open_blobs({bucket_url!r}, local=Path({str(tmp_path)!r})).local({blob.id!r}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    greedy = open_blobs(bucket_url, local=tmp_path, cache_bytes=0)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with greedy.local(blob.id):
            pass
        assert copies_below(tmp_path) == {blob.id}
    finally:
        holder.kill()
        holder.communicate()
    with greedy.local(blob.id):
        pass
    assert copies_below(tmp_path) == set()


def test_a_server_that_is_away_is_named_for_every_call_and_nothing_secret_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    nobody = ObjectStore()
    blobs = open_blobs(f"s3://bucket?endpoint={nobody.endpoint}", local=tmp_path)
    name = f"sha256:{'0' * 64}"

    def local() -> None:
        with blobs.local(name):
            pass

    calls = [lambda: blobs.put(b"x"), lambda: blobs.open(name), lambda: blobs.exists(name), lambda: blobs.delete(name),
             blobs.probe, lambda: list(blobs.walk()), local]  # fmt: skip
    for call in calls:
        with pytest.raises(StorageUnavailable) as raised:
            call()
        assert nobody.endpoint not in str(raised.value)
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in "".join(traceback.format_exception(raised.value))


def test_a_bucket_that_does_not_exist_is_unavailable(
    object_store: ObjectStore, bucket_url: str, tmp_path: Path
) -> None:
    blobs = open_blobs(f"s3://missing?endpoint={object_store.endpoint}", local=tmp_path)
    with pytest.raises(StorageUnavailable):
        blobs.put(b"x")
    with pytest.raises(StorageUnavailable):
        blobs.probe()


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://key:secret@bucket", "s3://bucket?secret_access_key=x", "s3://bucket?regoin=x"],
)
def test_an_address_with_credentials_or_unknown_words_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"AWS_\* variables|address takes") as raised:
        open_blobs(url, local=tmp_path)
    assert "secret@" not in str(raised.value)
