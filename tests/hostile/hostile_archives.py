"""Tar archives of shards and of distributed checkpoints, and folders named by reference, that lie about what they hold."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from hostile_checkpoints import entry, safetensors_bytes, tar_of, text
from safetensors.torch import save as safetensors_of
from test_read_distributed import HOSTILE as CHANGES
from test_read_distributed import network
from test_read_distributed import save as save_distributed

INDEX = "model.safetensors.index.json"
SHARD = safetensors_of({"a": torch.ones(2)})
_SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)


def index(**places: object) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": places}).encode()


def linked(links: Mapping[str, str], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """An archive of links alone."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return file.getvalue()


def with_header(archive: bytes, field: slice, value: bytes) -> bytes:
    """The archive with one field of its first header changed, and the checksum right again."""
    header = bytearray(archive[:512])
    header[field] = value
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


def extended(**fields: str) -> bytes:
    """An archive whose first file has a pax header of these fields."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(INDEX)
        member.size, member.pax_headers = len(index(a="s")), fields
        tar.addfile(member, io.BytesIO(index(a="s")))
    return file.getvalue()


def shards() -> dict[str, bytes]:
    both = {"s": SHARD, "t": SHARD}
    lying = safetensors_bytes(json.dumps({"a": entry([2**40], 0, 2**42)}).encode(), bytes(8))
    good = tar_of({INDEX: index(a="s"), "s": SHARD})
    return {
        "a shard is missing": tar_of({INDEX: index(a="s", b="t"), "s": SHARD}),
        "an index alone": tar_of({INDEX: index(a="s")}),
        "two indices": tar_of({INDEX: index(a="s"), f"other-{INDEX}": index(a="s"), "s": SHARD}),
        "an index that names itself": tar_of({INDEX: index(a=INDEX)}),
        "an index that climbs": tar_of({f"in/{INDEX}": index(a="../s"), "s": SHARD}),
        "an index that names /etc/passwd": tar_of({INDEX: index(a="/etc/passwd"), "s": SHARD}),
        "an index that names a link to itself": linked({INDEX: INDEX}),
        "an index of objects": tar_of({INDEX: index(a={"s": ["s"]}), "s": SHARD}),
        "an index of nothing": tar_of({INDEX: b"{}", "s": SHARD}),
        "an index of NaN": tar_of({INDEX: b'{"weight_map": NaN}', "s": SHARD}),
        "an index of 100,000 brackets": tar_of({INDEX: b"[" * 100_000, "s": SHARD}),
        "an index of 200,000 names": tar_of({INDEX: index(**{f"a{number}": "s" for number in range(200_000)}), "s": SHARD}),
        "an index of 33 MiB": tar_of({INDEX: b" " * (33 * 2**20), "s": SHARD}),
        "an index with a key twice": tar_of({INDEX: b'{"weight_map": {"a": "s", "a": "s"}}', "s": SHARD}),
        "one tensor in two shards": tar_of({INDEX: index(a="t", b="s"), **both}),
        "a tensor that is in no shard": tar_of({INDEX: index(a="s", b="s"), "s": SHARD}),
        "a shard of 4 TiB in its header": tar_of({INDEX: index(a="s"), "s": lying}),
        "a shard that is a pickle": tar_of({INDEX: index(a="s"), "s": pickle.dumps({"a": 1})}),
        "a member twice": good[: 4 * 512] + good,
        "a member of 8 EiB": with_header(good, _SIZE, b"\x80" + bytes(3) + struct.pack(">Q", 2**63 - 1)),
        "a member of a negative size": with_header(good, _SIZE, b"\xff" * 12),
        "a member of 8 GiB": with_header(good, _SIZE, b"77777777777\0"),
        "a size that is no number": with_header(good, _SIZE, b"0x10\0\0\0\0\0\0\0\0"),
        "an extended size of 10^15": extended(size=str(10**15 - 1)),
        "an extended path that climbs": extended(path="../../etc/cron.d/x"),
        "a sparse member": extended(**{"GNU.sparse.size": str(2**60)}),
        "links that go round": linked({"a": "b", "b": "a", INDEX: "a"}),
        "a hard link to /etc/passwd": linked({INDEX: "/etc/passwd"}, tarfile.LNKTYPE),
        "a device": linked({INDEX: ""}, tarfile.CHRTYPE),
        "a pipe": linked({INDEX: ""}, tarfile.FIFOTYPE),
        "10,001 members": tar_of({f"m{number}": b"" for number in range(10_001)}),
        "an archive in an archive": tar_of({"inner.tar": good}),
        "cut in a shard": good[: 512 * 3 + 40],
    }  # fmt: skip


HOLDS_ITSELF = (
    b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81}q\x00("
    + text("state_dict_metadata") + b"h\x00" + text("storage_data") + b"h\x00" + text("planner_data") + b"h\x00ub."
)  # fmt: skip


def distributed() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        saved = save_distributed(network().state_dict(), Path(folder) / "step")
        files = {path.name: path.read_bytes() for path in saved.iterdir()}
    data = next(name for name in files if name.endswith(".distcp"))

    def changed(change: Callable[[object], object]) -> bytes:
        return tar_of(files | {".metadata": pickle.dumps(change(pickle.loads(files[".metadata"])))})

    return {
        **{name: changed(change) for name, (change, _) in CHANGES.items()},  # type: ignore[arg-type]
        "metadata that hold themselves": tar_of(files | {".metadata": HOLDS_ITSELF}),
        "no pieces at all": tar_of({".metadata": files[".metadata"]}),
        "pieces of zeros": tar_of(files | {data: bytes(len(files[data]))}),
        "pieces that are cut": tar_of(files | {data: files[data][: len(files[data]) // 2]}),
        "two checkpoints": tar_of({**{f"a/{name}": held for name, held in files.items()}, **files}),
        "metadata of 33 MiB": tar_of(files | {".metadata": b"N" * (33 * 2**20)}),
        "pieces that are a link": linked({".metadata": data, data: ".metadata"}),
        "metadata that are empty": tar_of(files | {".metadata": b""}),
    }


def references(root: Path) -> dict[str, str]:
    """Makes what must not be read, or is no checkpoint, in and around a folder that may be read; paths by name."""
    root.mkdir(exist_ok=True)
    (root.parent / "secret").write_bytes(SHARD)
    made = {
        name: root / name.replace(" ", "-") for name in ("a link to itself", "a link out", "a pipe", "a link far out")
    }
    made["a link to itself"].symlink_to(made["a link to itself"])
    made["a link out"].symlink_to("../secret")
    made["a link far out"].symlink_to("/proc/self/environ")
    os.mkfifo(made["a pipe"])
    folders = {
        "a folder of nothing": {},
        "a folder without shards": {INDEX: index(a="s.safetensors")},
        "a folder whose index climbs": {INDEX: index(a="../../secret"), "s.safetensors": SHARD},
        "a folder whose metadata run code": {".metadata": b"cos\nsystem\n(Vtouch marker\ntR.", "0.distcp": b"x"},
        "a folder whose metadata hold themselves": {".metadata": HOLDS_ITSELF, "0.distcp": b"x"},
    }
    for name, files in folders.items():
        made[name] = root / name.replace(" ", "-")
        made[name].mkdir()
        for file, held in files.items():
            (made[name] / file).write_bytes(held)
    made["a folder whose shard is a link"] = root / "linked"
    made["a folder whose shard is a link"].mkdir()
    (root / "linked" / INDEX).write_bytes(index(a="s.safetensors"))
    (root / "linked" / "s.safetensors").symlink_to("../../secret")
    return {name: str(path) for name, path in made.items()} | {"nothing there": str(root / "missing")}
