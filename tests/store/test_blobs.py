"""Laws of the blob store: a name tells the bytes, and what was acknowledged is there whole or not at all.

The laws that take `blobs` are held on a folder and on a bucket of a server that speaks S3.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from store.blob_folder import FolderBlobs
from store.blobs import Blob, BlobStore, DigestMismatch, open_blobs


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return open_blobs(tmp_path / "blobs")
    return open_blobs(request.getfixturevalue("bucket_url"), local=tmp_path / "local")


def is_tidy(blobs: BlobStore, tmp_path: Path) -> bool:
    """Whether there is no blob and no leftover of one."""
    leftovers = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [*blobs.walk(), *leftovers] == []


def name_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def files_below(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def run(store: FolderBlobs, program: str) -> subprocess.CompletedProcess[str]:
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
    assert blobs.size(blob.id) == len(content)
    [stored] = blobs.walk()
    assert (stored.id, stored.size) == (blob.id, blob.size)
    assert abs(stored.stored_at.timestamp() - time.time()) < 60


def test_any_part_of_a_blob_is_the_slice_of_its_bytes(blobs: BlobStore) -> None:
    content = os.urandom(100_000)
    with blobs.open(blobs.put(content).id) as file:
        for start, end in ((0, 1), (99_999, 100_000), (5, 5), (17, 70_001), (0, 100_000), (100_000, 100_010)):
            assert file.seek(start) == start
            assert file.read(end - start) == content[start:end]
        assert file.seek(-3, os.SEEK_END) == 99_997
        assert file.read() == content[-3:]


def test_a_blob_lies_in_a_folder_under_its_hash(folder: FolderBlobs) -> None:
    digest = folder.put(b"x").id.removeprefix("sha256:")
    assert files_below(folder.folder) == [Path("sha256") / digest[:2] / digest]


def test_a_runner_gets_a_file_of_this_machine(blobs: BlobStore) -> None:
    blob = blobs.put(b"tensors")
    with blobs.local(blob.id) as path:
        assert path.read_bytes() == b"tensors"
    with pytest.raises(FileNotFoundError), blobs.local(name_of(b"never stored")):
        pass


def test_what_is_not_what_was_announced_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch) as raised:
        blobs.put(b"these", expected=name_of(b"those"))
    assert (raised.value.expected, raised.value.actual) == (name_of(b"those"), name_of(b"these"))
    assert is_tidy(blobs, tmp_path)


def test_a_writer_that_does_not_commit_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with blobs.writer() as writer:
        writer.write(b"half")
        assert not blobs.exists(writer.digest)
    with pytest.raises(TypeError), blobs.writer() as writer:
        [writer.write(chunk) for chunk in (b"half", "text")]
    assert is_tidy(blobs, tmp_path)


def test_a_committed_blob_takes_no_more_bytes(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"whole")
        blob = writer.commit()
        with pytest.raises(ValueError, match="closed file"):
            writer.write(b" and more")
    with blobs.open(blob.id) as file:
        assert file.read() == b"whole"


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
    assert [stored.id for stored in blobs.walk()] == [name_of(content)]


def test_a_crash_leaves_only_a_temporary_file_which_is_swept_when_old(folder: FolderBlobs) -> None:
    blobs = folder
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


def test_storage_that_is_full_is_named_and_leaves_nothing(folder: FolderBlobs) -> None:
    limited = run(
        folder,
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
    assert len(files_below(folder.folder)) == 1


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
    for read in (blobs.open, blobs.size):
        with pytest.raises(FileNotFoundError):
            read(blob.id)
    assert blobs.put(b"once") == blob


def test_a_blob_is_discarded_when_it_is_old_and_kept_when_it_was_written_again(blobs: BlobStore) -> None:
    old = blobs.put(b"old").id
    assert list(blobs.aged(older_than_seconds=60)) == []
    assert not blobs.discard(old, older_than_seconds=60)
    time.sleep(2.5)  # S3 tells seconds
    blobs.put(b"young")
    assert list(blobs.aged(older_than_seconds=1.4)) == [old]
    assert blobs.discard(old, older_than_seconds=1.4)
    assert not blobs.exists(old)
    assert not blobs.discard(old, older_than_seconds=0)
    again = blobs.put(b"again").id
    time.sleep(2.5)
    blobs.put(b"again")
    assert not blobs.discard(again, older_than_seconds=1.4)
    assert blobs.exists(again)


def test_a_store_that_can_be_written_passes_its_probe_and_shows_nothing_of_it(blobs: BlobStore, tmp_path: Path) -> None:
    for _ in range(2):
        blobs.probe()
    assert is_tidy(blobs, tmp_path)


def test_an_old_blob_that_is_written_again_while_it_is_collected_stays(folder: FolderBlobs) -> None:
    """A writer and a collector race for the same bytes: once the writer has its acknowledgement, they are there."""
    blob = folder.put(b"again")
    done = threading.Event()

    def collect() -> int:
        num_collected = 0
        while not done.is_set():
            num_collected += folder.discard(blob.id, older_than_seconds=3600)
        return num_collected

    with ThreadPoolExecutor(1) as pool:
        collector = pool.submit(collect)
        for _ in range(100):
            with suppress(FileNotFoundError):  # collected, or taken aside for a moment
                os.utime(folder.path(blob.id), (time.time() - 7200,) * 2)
            folder.put(b"again")
        done.set()
        assert collector.result() > 0
    assert folder.exists(blob.id)


def test_a_store_is_opened_by_path_or_url(tmp_path: Path) -> None:
    blob = open_blobs(str(tmp_path / "a b")).put(b"x")
    assert open_blobs((tmp_path / "a b").as_uri()).exists(blob.id)
    with pytest.raises(ValueError, match="not supported"):
        open_blobs("ftp://host/folder")
