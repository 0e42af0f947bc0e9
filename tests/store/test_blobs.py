"""Laws of the blob store: a name tells the bytes, and what was acknowledged is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.blobs import Blob, BlobStore, DigestMismatch, open_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(tmp_path / "blobs")


def name_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def files_below(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def run(store: BlobStore, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with `blobs` open, in a process of its own."""
    header = f"import os, resource\nfrom store.blobs import *\nblobs = open_blobs({str(store.folder)!r})\n"
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", header + textwrap.dedent(program)], cwd=root, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3_000_001)])
def test_bytes_come_back_under_the_name_of_their_hash(blobs: BlobStore, content: bytes) -> None:
    with blobs.writer() as writer:
        for start in range(0, len(content), 65_536):
            writer.write(content[start : start + 65_536])
        assert (writer.digest, writer.size) == (name_of(content), len(content))
        blob = writer.commit(name_of(content))
    assert blob == Blob(name_of(content), len(content)) == blobs.put(content)
    with blobs.open(blob.id) as file:
        assert file.read() == content
    digest = blob.id.removeprefix("sha256:")
    assert files_below(blobs.folder) == [Path("sha256") / digest[:2] / digest]


def test_what_is_not_what_was_announced_leaves_nothing(blobs: BlobStore) -> None:
    with pytest.raises(DigestMismatch) as raised:
        blobs.put(b"these", expected=name_of(b"those"))
    assert (raised.value.expected, raised.value.actual) == (name_of(b"those"), name_of(b"these"))
    assert files_below(blobs.folder) == []


def test_a_writer_that_does_not_commit_leaves_nothing(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"half")
        assert not blobs.exists(writer.digest)
    with pytest.raises(TypeError), blobs.writer() as writer:
        [writer.write(chunk) for chunk in (b"half", "text")]
    assert files_below(blobs.folder) == []


def test_a_committed_blob_takes_no_more_bytes(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"whole")
        blob = writer.commit()
        with pytest.raises(ValueError, match="closed file"):
            writer.write(b" and more")
    assert blobs.path(blob.id).read_bytes() == b"whole"


def test_writers_of_the_same_bytes_at_once_make_one_blob(blobs: BlobStore) -> None:
    content = os.urandom(300_000)
    start = threading.Barrier(8)

    def write(_: int) -> str:
        with blobs.writer() as writer:
            for offset in range(0, len(content), 10_000):
                writer.write(content[offset : offset + 10_000])
            start.wait()
            blob = writer.commit(name_of(content))
        with blobs.open(blob.id) as file:  # whole as soon as it is acknowledged, whoever replaces it
            assert file.read() == content
        return blob.id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(8))) == {name_of(content)}
    assert len(files_below(blobs.folder)) == 1


def test_a_crash_leaves_only_a_temporary_file_which_is_swept_when_old(blobs: BlobStore) -> None:
    crashed = run(blobs, "with blobs.writer() as writer: writer.write(b'half'); os._exit(9)")
    assert crashed.returncode == 9
    (leftover,) = files_below(blobs.folder)
    assert leftover.parts[0] == "tmp"
    assert blobs.sweep_temporary(older_than_seconds=3600) == 0
    os.utime(blobs.folder / leftover, (time.time() - 7200,) * 2)
    with blobs.writer() as writer:
        writer.write(b"in use")
        assert blobs.sweep_temporary(older_than_seconds=3600) == 1
        blob = writer.commit()
    assert blobs.exists(blob.id)


def test_storage_that_is_full_is_named_and_leaves_nothing(blobs: BlobStore) -> None:
    limited = run(
        blobs,
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        assert blobs.put(bytes(100_000)).size == 100_000
        try:
            blobs.put(b"1" * 100_001)
        except StorageFull as full:
            print(full)
        """,
    )
    assert limited.returncode == 0, limited.stderr
    assert "no space left" in limited.stdout
    assert len(files_below(blobs.folder)) == 1


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:" + "A" * 64, "sha256:../../" + "a" * 58, "a" * 64, name_of(b"") + "\n"]
)
def test_a_name_that_is_no_hash_reaches_no_file(blobs: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="no blob identifier"):
        blobs.exists(name)


def test_a_deleted_blob_is_gone_and_may_be_written_again(blobs: BlobStore) -> None:
    blob = blobs.put(b"once")
    for _ in range(2):
        blobs.delete(blob.id)
    assert not blobs.exists(blob.id)
    with pytest.raises(FileNotFoundError):
        blobs.open(blob.id)
    assert blobs.put(b"once") == blob


def test_a_store_is_opened_by_path_or_url(tmp_path: Path) -> None:
    blob = open_blobs(str(tmp_path / "a b")).put(b"x")
    assert open_blobs((tmp_path / "a b").as_uri()).exists(blob.id)
    with pytest.raises(ValueError, match="not supported"):
        open_blobs("s3://bucket/prefix")
