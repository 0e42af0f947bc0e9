"""Checkpoints by reference: what is read is what was hashed, and nothing outside the list is read."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp

from saddlescope.contract.sources import ObjectSource, PathSource
from workers.readers.checkpoint import read_tensors
from workers.references import Copied, ReferenceRefused, copy_reference

CONTENT = random.Random(5).randbytes(3 * 2**20 + 17)


def go_on() -> None:
    """Nothing ends the copying."""


def copy(path: Path, root: Path, *, to: Path, check: Callable[[], None] = go_on) -> Copied:
    return copy_reference(PathSource(path=str(path)), to, roots=[root], buckets=frozenset(), check=check)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "model.pt").write_bytes(CONTENT)
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def test_a_file_is_copied_and_named_by_its_hash(root: Path, tmp_path: Path) -> None:
    copied = copy(root / "run" / "model.pt", root, to=tmp_path / "copy")
    name = str(root / "run" / "model.pt")
    assert copied == Copied(name, tmp_path / "copy", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert copied.path.read_bytes() == CONTENT


def test_a_link_that_stays_beneath_the_root_is_followed(root: Path, tmp_path: Path) -> None:
    (root / "latest").symlink_to("run")
    (tmp_path / "other name").symlink_to(root)
    assert copy(root / "latest" / "model.pt", root, to=tmp_path / "a").path.read_bytes() == CONTENT
    assert copy(root / "latest" / "model.pt", tmp_path / "other name", to=tmp_path / "b").path.read_bytes() == CONTENT


def test_nothing_outside_the_roots_is_read_by_any_way(root: Path, tmp_path: Path) -> None:
    (root / "out").symlink_to("../secret")
    (root / "far").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    beside = tmp_path / "checkpoints-of-others"
    beside.mkdir()
    (beside / "secret").write_bytes(b"secret")
    tries = [root / "out", root / "far" / "passwd", tmp_path / "secret", beside / "secret", root, root / "pipe"]
    tries += [root / "missing", Path("/dev/zero"), Path("/proc/self/environ")]
    for number, path in enumerate(tries):
        with pytest.raises(ReferenceRefused):
            copy(path, root, to=tmp_path / f"copy-{number}")
        assert (tmp_path / f"copy-{number}").read_bytes() == b""
    with pytest.raises(ReferenceRefused, match="none of the folders"):
        copy_reference(
            PathSource(path=str(root / "run" / "model.pt")), tmp_path / "c", roots=[], buckets=frozenset(), check=go_on
        )


def test_a_root_that_is_gone_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ReferenceRefused):
        copy(tmp_path / "gone" / "model.pt", tmp_path / "gone", to=tmp_path / "copy")


@pytest.mark.parametrize("change", ["grows", "is rewritten", "is cut"])
def test_a_file_that_changes_while_it_is_read_is_refused(root: Path, tmp_path: Path, change: str) -> None:
    path = root / "run" / "model.pt"
    changed: list[bool] = []

    def meanwhile() -> None:
        if not changed:
            changed.append(True)
            match change:
                case "grows":
                    path.write_bytes(CONTENT + b"more")
                case "is rewritten":
                    path.write_bytes(CONTENT[::-1])
                case "is cut":
                    os.truncate(path, 2**21)

    with pytest.raises(ReferenceRefused, match="changed while it was read"):
        copy(path, root, to=tmp_path / "copy", check=meanwhile)


def test_a_folder_is_packed_the_same_for_the_same_bytes_and_read_as_it_was(root: Path, tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.float64)}
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(dict(state), checkpoint_id=root / "dcp")
    (root / "dcp" / "notes.txt").write_text("stays where it is")
    first = copy(root / "dcp", root, to=tmp_path / "a")
    os.utime(root / "dcp" / ".metadata", (1, 1))
    assert copy(root / "dcp", root, to=tmp_path / "b").digest == first.digest
    read = read_tensors(first.path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_a_sharded_set_in_a_folder_is_read_as_its_shards(root: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(3)}, root / "run" / "model-00001-of-00001.safetensors")
    index = '{"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}'
    (root / "run" / "model.safetensors.index.json").write_text(index)
    copied = copy(root / "run", root, to=tmp_path / "copy")
    assert torch.equal(read_tensors(copied.path)["a"], torch.ones(3))


def test_a_folder_with_nothing_of_a_checkpoint_or_a_link_in_it_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ReferenceRefused, match="no sharded or distributed"):
        copy(root / "run", root, to=tmp_path / "a")
    (root / "run" / "a.distcp").symlink_to("/etc/passwd")
    (root / "run" / ".metadata").write_bytes(b"x")
    with pytest.raises(ReferenceRefused):
        copy(root / "run", root, to=tmp_path / "b")


def test_an_object_of_an_allowed_bucket_is_copied(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (endpoint,) = parse_qs(urlsplit(bucket_url).query)["endpoint"]
    bucket = urlsplit(bucket_url).hostname or ""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    httpx2.put(f"{endpoint}/{bucket}/runs/7/model.pt", content=CONTENT).raise_for_status()

    def fetch(key: str, *, allowed: str, to: str) -> Copied:
        source = ObjectSource(s3=f"s3://{bucket}/{key}")
        return copy_reference(source, tmp_path / to, roots=[], buckets=frozenset([allowed]), check=go_on)

    copied = fetch("runs/7/model.pt", allowed=bucket, to="a")
    assert copied.digest == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert copied.path.read_bytes() == CONTENT
    with pytest.raises(ReferenceRefused, match="no such object"):
        fetch("runs/8/model.pt", allowed=bucket, to="b")
    with pytest.raises(ReferenceRefused, match="none of those"):
        fetch("runs/7/model.pt", allowed="another", to="c")
