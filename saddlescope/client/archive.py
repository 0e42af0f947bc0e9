"""What leaves the machine: a `.pt2` archive with nothing in it but operators, names, sizes, weights and constants."""

from __future__ import annotations

import io
import json
import zipfile

from pydantic import JsonValue

_ROOT = "loss"
_MODEL = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
# torch.export.load asks for this member; without bytes in it, there is no example.
_SAMPLE = "data/sample_inputs/model.pt"
_KEPT = ("archive_format", "archive_version", "byteorder", ".data/version", _MODEL, *_CONFIGS)
_CHANGED = "this version of torch writes another kind of archive; use torch 2.11 to 2.13"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def anonymous_archive(saved: bytes, *, prefix: str) -> bytes:
    """The archive of torch.export.save without sample inputs, source lines, paths and guards; equal programs give equal bytes.

    Args:
        saved: what torch.export.save wrote.
        prefix: taken off the names of parameters, buffers and constants.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        members = {name.partition("/")[2]: name for name in source.namelist()}
        for short in sorted(members):
            if short == _MODEL:
                content = _dumped(_without_traces(json.loads(source.read(members[short])), prefix))
            elif short in _CONFIGS:
                content = _dumped(_renamed_config(json.loads(source.read(members[short])), prefix))
            elif short in _KEPT or short.startswith(("data/weights/weight_", "data/constants/tensor_")):
                content = source.read(members[short])
            else:
                continue
            target.writestr(zipfile.ZipInfo(f"{_ROOT}/{short}", _LONG_AGO), content)
        target.writestr(zipfile.ZipInfo(f"{_ROOT}/{_SAMPLE}", _LONG_AGO), b"")
    return written.getvalue()


def _dumped(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _without_traces(program: JsonValue, prefix: str) -> JsonValue:
    module = _object(_object(program)["graph_module"])
    for node in _list(_object(module["graph"])["nodes"]):
        _object(node)["metadata"] = {}
    for spec in _list(_object(module["signature"])["input_specs"]):
        for kind, name in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if kind in _object(spec):
                named = _object(_object(spec)[kind])
                named[name] = str(named[name]).removeprefix(prefix)
    # Only the entry of the whole module describes how it is called; the others name classes of the model.
    module["module_call_graph"] = [entry for entry in _list(module["module_call_graph"]) if _object(entry)["fqn"] == ""]
    module["metadata"] = {}
    return {**_object(program), "guards_code": []}


def _renamed_config(config: JsonValue, prefix: str) -> JsonValue:
    entries = _object(_object(config)["config"])
    return {"config": {name.removeprefix(prefix): entry for name, entry in entries.items()}}


def _object(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise TypeError(_CHANGED)
    return value


def _list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise TypeError(_CHANGED)
    return value
