"""docs/reference/python.md, from the names that the packages export and their docstrings."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module

from docs.generate.docstrings import markdown_of

HEAD = """# Python reference

Generated from the code by `python -m docs.generate reference`. What comes back over HTTP has the fields of the objects in the
[HTTP reference](http.md#objects), under the same names.
"""

MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("saddlescope", ("analyze", "analyze_distributed", "export_loss", "Client")),
    ("saddlescope.client", ("Job",)),
    (
        "saddlescope.callbacks",
        (
            "PlainCallback",
            "HuggingFaceCallback",
            "LightningCallback",
            "Plateau",
            "Escape",
            "LowerLearningRate",
            "Answer",
        ),
    ),
    ("saddlescope.results", ("AnalysisReport", "EscapeDirection")),
    ("saddlescope.client.webhooks", ("verify",)),
    ("saddlescope.client.export", ("ExportError",)),
    ("saddlescope.contract.jobs", ("Options",)),
    (
        "saddlescope.contract.vocabulary",
        ("Verdict", "Strength", "Action", "JobStatus", "Stage", "Method", "Precision", "Caution", "FailureCode"),
    ),
)
WIDTH = 110


def page() -> str:
    parts = [HEAD]
    for module, names in MODULES:
        parts.append(f"## {module}\n")
        parts += [_section(getattr(import_module(module), name)) for name in names]
    errors = import_module("saddlescope.client.errors")
    parts.append(f"## saddlescope.client.errors\n\n```text\n{inspect.getdoc(errors)}\n```\n")
    return "\n".join(parts)


def _section(thing: object) -> str:
    if isinstance(thing, type):
        return _class_section(thing)
    name = getattr(thing, "__name__", "")
    return f"### {name}\n\n```text\n{_signature(thing, name)}\n```\n\n{markdown_of(thing)}"


def _class_section(kind: type) -> str:
    parts = [f"### {kind.__name__}\n"]
    if issubclass(kind, enum.Enum):
        words = ", ".join(f"`{member.value}`" for member in kind)
        return "\n".join([*parts, markdown_of(kind), f"One of {words}.\n"])
    fields = getattr(kind, "model_fields", None)
    if fields is not None:
        rows = [
            f"- `{name}`" + (f": {field.description}" if field.description else "") for name, field in fields.items()
        ]
        return "\n".join([*parts, markdown_of(kind), *rows, ""])
    if "Args:" in (inspect.getdoc(kind) or ""):  # what callers make themselves
        parts.append(f"```text\n{_signature(kind, kind.__name__)}\n```\n")
    parts.append(markdown_of(kind))
    for name, member in _members(kind):
        if isinstance(member, property | cached_property):
            said = (inspect.getdoc(member) or "").strip()
            parts.append(f"- `.{name}`" + (f": {' '.join(said.split())}" if said else ""))
    parts.append("")
    for name, member in _members(kind):
        if inspect.isfunction(member):
            parts.append(
                f"#### {kind.__name__}.{name}\n\n```text\n{_signature(member, name)}\n```\n\n{markdown_of(member)}"
            )
    return "\n".join(parts)


def _members(kind: type) -> Iterator[tuple[str, object]]:
    return ((name, member) for name, member in vars(kind).items() if not name.startswith("_"))


def _signature(thing: object, name: str) -> str:
    """The signature with annotations as they are written, on several lines where one would be long."""
    assert callable(thing)
    signature = inspect.signature(thing)
    shown = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    result = (
        ""
        if signature.return_annotation in (inspect.Signature.empty, None, "None")
        else f" -> {_bare(signature.return_annotation)}"
    )
    written = _with_star([_parameter(parameter) for parameter in shown], shown)
    line = f"{name}({', '.join(written)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {each}," for each in written), f"){result}"])


def _with_star(written: list[str], shown: list[inspect.Parameter]) -> list[str]:
    """A lone star before the first argument that goes by name only."""
    for position, parameter in enumerate(shown):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return written
        if parameter.kind is parameter.KEYWORD_ONLY:
            return [*written[:position], "*", *written[position:]]
    return written


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {_bare(parameter.annotation)}"
    equals = " = " if annotation else "="
    default = "" if parameter.default is parameter.empty else f"{equals}{parameter.default!r}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _bare(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
