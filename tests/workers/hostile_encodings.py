"""Lies below the level of tensors: in opcodes, in the records of archives and in headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from hostile_checkpoints import (
    RECORD,
    SMALL_NPY,
    entry,
    integer,
    safetensors_bytes,
    state_dict,
    stored_tensor,
    text,
    torch_saved,
    zipped,
)

Cases = dict[str, tuple[bytes, str]]


def pickles(marked: Path) -> Cases:
    """Pickles of every protocol that say what no state dict says; and a part of the message."""
    touch = f"touch {marked}"
    plain = state_dict(a=stored_tensor())
    wide = b"(" + b"K\x01" * 100_000 + b"tq\x09"
    described = b"ctorch._utils\n_rebuild_tensor_v2\nq\x05" + wide + stored_id() + b"q\x07"
    copies = b"h\x05(h\x07K\x00h\x09h\x09\x89NtR" * 20_000
    said: Cases = {
        "protocol 0": (f"(S'{touch}'\nios\nsystem\n.".encode(), "opcode"),
        "protocol 0, called": (f"cos\nsystem\n(V{touch}\ntR.".encode(), "os.system"),
        "protocol 1 object": (b"(cos\nsystem\n" + text(touch) + b"o.", "os.system"),
        "global by text": (b"\x80\x04" + text("os") + text("system") + b"\x93" + text(touch) + b"\x85R.", "os.system"),
        "global by number": (b"\x80\x04K\x01K\x02\x93.", "no text"),
        "nested attribute": (b"\x80\x04" + text("torch") + text("_utils._rebuild_tensor_v2.__globals__") + b"\x93.", "names"),
        "builtins": (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        "keyword arguments": (b"\x80\x04)}\x92.", "0x92"),
        "registered extension": (b"\x80\x02\x82\x01.", "0x82"),
        "persistent id of text": (b"Pos.system\n.", "0x50"),
        "persistent id of another kind": (b"\x80\x02" + text("storage") + b"Q.", "plain storage"),
        "bytes out of band": (b"\x80\x05\x97.", "0x97"),
        "bytearray of 2^62": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".", "0x96"),
        "bytes of 2^32": (b"\x80\x03B\xff\xff\xff\xff.", "0x42"),
        "text of 2^63": (b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b".", "0x8d"),
        "integer of 2^31 bytes": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "0x8b"),
        "integer of 255 bytes": (b"\x80\x02\x8a\xff" + bytes(255) + b".", "64 bits"),
        "integer in digits": (b"I" + b"9" * 100_000 + b"\n.", "0x49"),
        "memo of 2^31": (b"\x80\x02j\x00\x00\x00\x80.", "never stored"),
        "memo out of order": (b"\x80\x02Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.", "never stored"),
        "endless global": (b"\x80\x02c" + b"o" * 100_000, "too early"),
        "frame past the end": (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"}.", "no state dict"),
        "list that holds itself": (b"\x80\x02]q\x00h\x00a.", "no state dict"),
        "dict that holds itself": (b"\x80\x02}q\x00" + text("model") + b"h\x00s.", "no state dict"),
        "list as a key": (b"\x80\x02}]Ns.", "dict key"),
        "mark as a value": (b"\x80\x02}" + text("a") + b"(s.", "no state dict"),
        "uneven items": (b"\x80\x02}(" + text("a") + b"u.", "no dict"),
        "tensor of nothing": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "wrongly"),
        "parameter of nothing": (b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.", "no state dict"),
        "dict with arguments": (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "no state dict"),
        "quantized storage": (state_dict(a=stored_tensor(storage="QInt8Storage")), "QInt8Storage"),
        "complex storage": (state_dict(a=stored_tensor(storage="ComplexFloatStorage")), "ComplexFloatStorage"),
        "untyped storage": (state_dict(a=stored_tensor(storage="storage.UntypedStorage")), "UntypedStorage"),
        "another dtype's length": (state_dict(a=stored_tensor(storage="BFloat16Storage")), "record has 16 bytes"),
        "negative count": (state_dict(a=stored_tensor(numel=-4)), "plain storage"),
        "negative stride": (state_dict(a=stored_tensor(stride=(-1,))), "wrongly"),
        "stride without a size": (state_dict(a=stored_tensor(stride=(1, 1))), "wrongly"),
        "key with NUL": (state_dict(a=stored_tensor(key="0\0")), "missing"),
        "name with a line": (state_dict(**{"a\n": stored_tensor()}), "tensor name"),
        "name in Cyrillic": (state_dict_of_text("вес"), "tensor name"),
        "name of nothing": (state_dict(**{"": stored_tensor()}), "tensor name"),
        "20,000 tensors of rank 100,000": (b"\x80\x02" + described + copies + b".", "dimensions"),
        "text that is not UTF-8": (b"\x80\x02X\x02\x00\x00\x00\xc3\x28.", "UTF-8"),
        "half of a surrogate pair": (b"\x80\x02X\x03\x00\x00\x00\xed\xa0\x80.", "UTF-8"),
        "nothing after the protocol": (b"\x80\x02", "too early"),
        "opcodes after the end": (plain[:-1] + b"Q.", "plain storage"),
    }  # fmt: skip
    return {case: (torch_saved(content, RECORD), message) for case, (content, message) in said.items()}


def stored_id() -> bytes:
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(4) + b"tQ"


def state_dict_of_text(name: str) -> bytes:
    raw = name.encode()
    return b"\x80\x02}X" + struct.pack("<I", len(raw)) + raw + stored_tensor() + b"s."


END, DIRECTORY, LOCAL = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"


def changed(archive: bytes, record: bytes, at: int, value: bytes) -> bytes:
    """The archive with bytes of its last such record replaced."""
    start = archive.rfind(record) + at
    return archive[:start] + value + archive[start + len(value) :]


def widened(numbers: bytes) -> bytes:
    """An archive whose only entry has a ZIP64 field with these numbers for its two sizes."""
    plain = zipped([("a.npy", SMALL_NPY.getvalue())])
    directory, end = plain.rfind(DIRECTORY), plain.rfind(END)
    header = bytearray(plain[directory:end])
    header[20:28] = b"\xff" * 8
    field = struct.pack("<2H", 1, len(numbers)) + numbers
    header[30:32] = struct.pack("<H", len(field))
    grown = plain[:directory] + bytes(header) + field + plain[end:]
    return changed(grown, END, 12, struct.pack("<L", len(header) + len(field)))


def claiming(count: int) -> bytes:
    """An archive whose ZIP64 record claims so many members."""
    plain = zipped([("a.npy", SMALL_NPY.getvalue())])
    directory, end = plain.rfind(DIRECTORY), plain.rfind(END)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, end - directory, directory)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return plain[:end] + record + locator + plain[end:]


def archives() -> Cases:
    """ZIP archives whose records disagree with their bytes or with one another."""
    npy = SMALL_NPY.getvalue()
    plain = zipped([("a.npy", npy)])
    size = struct.pack("<L", len(npy))
    return {
        "size of 2^40 in ZIP64": (widened(struct.pack("<2Q", 2**40, 2**40)), "reaches into"),
        "size of 2^64 - 1 in ZIP64": (widened(struct.pack("<2Q", 2**64 - 1, 2**64 - 1)), "reaches into"),
        "ZIP64 field cut": (widened(b"\0" * 8), "missing"),
        "2^40 members": (claiming(2**40), "claims"),
        "100,001 members": (claiming(100_001), "claims"),
        "more members than entries": (claiming(2), "truncated"),
        "no members": (claiming(0), "more than its entries"),
        "ZIP64 record far away": (
            changed(claiming(1), b"PK\x06\x07", 8, struct.pack("<Q", 2**60)), "truncated",
        ),
        "ZIP64 directory far away": (
            changed(claiming(1), b"PK\x06\x06", 48, struct.pack("<Q", 2**60)), "not where",
        ),
        "a name with NUL": (plain.replace(b"a.npy", b"\0.npy"), "member named"),
        "an absolute name": (plain.replace(b"a.npy", b"/.npy"), "member named"),
        "a name with a backslash": (plain.replace(b"a.npy", b"\\.npy"), "member named"),
        "a name that is not UTF-8": (plain.replace(b"a.npy", b"\xff.npy"), "UTF-8"),
        "two names for one member": (changed(plain, LOCAL, 30, b"b"), "two different ways"),
        "a name longer than the file": (changed(plain, LOCAL, 26, b"\xff\xff"), "truncated"),
        "deflated, says the local header": (changed(plain, LOCAL, 8, b"\x08\0"), "two different ways"),
        "encrypted": (changed(plain, DIRECTORY, 8, b"\x01\0"), "encrypted"),
        "two sizes": (changed(plain, DIRECTORY, 20, struct.pack("<L", 7)), "two different sizes"),
        "a size that cuts the member": (changed(plain, DIRECTORY, 20, struct.pack("<2L", 7, 7)), "truncated"),
        "a header offset past the end": (changed(plain, DIRECTORY, 42, b"\xf0\xff\xff\x7f"), "truncated"),
        "a directory past the end": (changed(plain, END, 16, b"\xf0\xff\xff\x7f"), "not where"),
        "several disks": (changed(plain, END, 4, b"\x01\0"), "damaged"),
        "a comment past the end": (changed(plain, END, 20, b"\xff\xff"), "damaged"),
        "an archive inside another's comment": (changed(plain, END, 20, struct.pack("<H", 22)) + END + bytes(18), "a"),
        "something before the archive": (LOCAL + bytes(26) + plain, "not where"),
        "a data descriptor instead of sizes": (plain.replace(size + size, bytes(8)), "truncated"),
        "a folder": (zipped([("a.npy", npy), ("b/", b"")]), "something else"),
    } | arrays()  # fmt: skip


def arrays() -> Cases:
    """npz archives whose headers are not those of plain arrays."""
    fine = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
    said = {
        "parentheses in parentheses": (fine.replace("(3,)", "((3,),)"), "damaged header"),
        "a shape that is called": (fine.replace("(3,)", "__import__('os').getpid()"), "damaged header"),
        "a float as the shape": (fine.replace("(3,)", "(3.0,)"), "damaged header"),
        "a negative shape": (fine.replace("(3,)", "(-3,)"), "damaged header"),
        "a shape of 2^64": (fine.replace("3", "18446744073709551619"), "impossible"),
        "a shape that overflows": (fine.replace("(3,)", "(99999999999, 99999999999)"), "overflows"),
        "rank 64": (fine.replace("(3,)", f"({', '.join('1' * 64)})"), "dimensions"),
        "numbers without commas": (fine.replace("(3,)", "(3 1)"), "damaged header"),
        "an order that is no truth": (fine.replace("False", "1"), "damaged header"),
        "a structured dtype": (fine.replace("'<f8'", "[('a', '<f8')]"), "structured"),
        "a big-endian dtype": (fine.replace("<f8", ">f8"), "dtype"),
        "a complex dtype": (fine.replace("<f8", "<c16"), "dtype"),
        "a dtype of dates": (fine.replace("<f8", "<M8[s]"), "dtype"),
        "a dtype of text": (fine.replace("<f8", "<U2"), "dtype"),
        "a dtype of bytes": (fine.replace("<f8", "|V8"), "dtype"),
        "an unsigned dtype of 64 bits": (fine.replace("<f8", "<u8"), "dtype"),
        "a further key": (fine.replace(" }", " 'x': 1}"), "damaged header"),
        "a key twice": (fine.replace("{", "{'shape': (1,), "), "damaged header"),
        "transposed and short": (fine.replace("False", "True").replace("(3,)", "(3, 2)"), "needs 48 bytes"),
    }
    cases: Cases = {case: (zipped([("a.npy", array(header))]), message) for case, (header, message) in said.items()}
    return cases | {
        "an endless array header": (zipped([("a.npy", array(fine, length=60_000))]), "at most 1024"),
        "an array header past the end": (zipped([("a.npy", array(fine, length=1_000))]), "truncated"),
        "a header of version 2 and 4 GiB": (
            zipped([("a.npy", b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(64))]), "at most 1024",
        ),
        "an array of another kind": (zipped([("a.npy", b"\x93NUMPI" + bytes(100))]), "NumPy's format"),
        "an array of four bytes": (zipped([("a.npy", b"\x93NUM")]), "truncated"),
        "an array with a hostile name": (zipped([("a b.npy", SMALL_NPY.getvalue())]), "tensor name"),
    }  # fmt: skip


def array(header: str, *, length: int | None = None) -> bytes:
    raw = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(raw) if length is None else length) + raw + bytes(24)


def headers() -> Cases:
    """safetensors headers of wrong types, names and numbers."""
    good = entry([1], 0, 4)

    def of(**changes: object) -> bytes:
        return safetensors_bytes(json.dumps({"a": good | changes}).encode(), bytes(4))

    def raw(text: str) -> bytes:
        return safetensors_bytes(text.encode(), bytes(4))

    whole = json.dumps(good)
    return {
        "a float as the shape, in JSON": (of(shape=[1.0]), "impossible"),
        "a truth as the shape": (of(shape=[True]), "impossible"),
        "a shape of text": (of(shape="1"), "wrong shape"),
        "no shape": (of(shape=None), "wrong shape"),
        "a dtype of lists": (of(dtype=[["F32"]]), "dtype"),
        "8-bit floats": (of(dtype="F8_E4M3"), "F8_E4M3"),
        "4-bit floats": (of(dtype="F4"), "F4"),
        "offsets of text": (of(data_offsets=["0", "4"]), "range of bytes"),
        "offsets of floats": (of(data_offsets=[0.0, 4.0]), "range of bytes"),
        "negative offsets": (of(data_offsets=[-4, 0]), "range of bytes"),
        "reversed offsets": (of(data_offsets=[4, 0]), "range of bytes"),
        "three offsets": (of(data_offsets=[0, 2, 4]), "data_offsets"),
        "offsets of 2^64": (of(shape=[2**46], data_offsets=[2**64, 2**64 + 2**48]), "truncated"),
        "a field too many": (of(strides=[1]), "must hold"),
        "an entry that is a list": (raw('{"a":[]}'), "must hold"),
        "an entry that is nothing": (raw('{"a":null}'), "must hold"),
        "metadata that is a number": (raw(f'{{"__metadata__":5,"a":{whole}}}'), "metadata"),
        "metadata of lists": (raw(f'{{"__metadata__":{{"a":[]}},"a":{whole}}}'), "metadata"),
        "metadata twice": (raw(f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{whole}}}'), "twice"),
        "a key twice in one entry": (raw('{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}'), "twice"),
        "a name in Greek": (raw(f'{{"θ":{whole}}}'), "tensor name"),
        "a name of half a surrogate pair": (raw(f'{{"\\ud800":{whole}}}'), "tensor name"),
        "a name that climbs": (raw(f'{{"../a":{whole}}}'), "tensor name"),
        "an empty name": (raw(f'{{"":{whole}}}'), "tensor name"),
        "a name of 513 characters": (raw(f'{{"{"a" * 513}":{whole}}}'), "tensor name"),
        "text after the header": (raw(f'{{"a":{whole}}} x'), "not valid JSON"),
        "NUL after the header": (safetensors_bytes(f'{{"a":{whole}}}'.encode() + b"\0", bytes(4)), "not valid JSON"),
        "a header that is not UTF-8": (safetensors_bytes(b'{"\xff":1}'), "not valid JSON"),
        "Infinity in the header": (raw('{"a":-Infinity}'), "JSON number"),
        "a header of eight bytes less": (safetensors_bytes(b'{"a":1}', length=2**40), "claims"),
        "a list of two million lists": (safetensors_bytes(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"), "must hold"),
        "two million names": (safetensors_bytes(b'{"a":{' + b'"":0,' * 1_000_000 + b'"":0}}'), "twice"),
    }  # fmt: skip


def encodings(marked: Path) -> Cases:
    return pickles(marked) | archives() | headers()
