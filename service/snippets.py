"""A question as a command of the shell and as Python, to be copied and asked again."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping

from pydantic import JsonValue

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.sources import Reference
from service.settings import Auth

# Beyond this a snippet is no reading matter, and a shell may refuse it.
_MAX_CHARS = 20_000
_FIRST: dict[str, JsonValue] = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}


def first_curl(base: str, auth: Auth) -> str:
    """The smallest question that teaches something."""
    return _curl(_FIRST, base, auth)


def first_python(base: str, auth: Auth) -> str:
    return _python(_FIRST, base, auth)


def as_curl(request: JobRequest, base: str, auth: Auth) -> str | None:
    """The request as one command; None for one that is too long to paste."""
    return _short(_curl(_asked(request), base, auth))


def as_python(request: JobRequest, base: str, auth: Auth) -> str | None:
    """The request through the client library; None for one that is too long to paste, or names what only workers can read."""
    if isinstance(request.checkpoint, Reference):
        return None
    return _short(_python(_asked(request), base, auth))


def _asked(request: JobRequest) -> dict[str, JsonValue]:
    asked: dict[str, JsonValue] = request.model_dump(mode="json", exclude_defaults=True)
    return asked


def _short(snippet: str) -> str | None:
    return snippet if len(snippet) <= _MAX_CHARS else None


def _curl(asked: Mapping[str, JsonValue], base: str, auth: Auth) -> str:
    key = ' -H "Authorization: Bearer $SADDLESCOPE_API_KEY"' if auth is Auth.KEYS else ""
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in asked.items()
    )
    body = shlex.quote(f"{{\n{lines}\n}}")
    return f"curl -s{key} -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\\n  {base}/v1/jobs -d {body}"


def _python(asked: Mapping[str, JsonValue], base: str, auth: Auth) -> str:
    arguments = [_source(asked["checkpoint"], "model.safetensors"), _loss(asked["loss"])]
    if "data" in asked:
        arguments.append(_source(asked["data"], "data.npz"))
    named = {
        name: value for name, value in asked.items() if name not in ("checkpoint", "loss", "data", "run", "options")
    }
    run, options = asked.get("run"), asked.get("options")
    if isinstance(run, dict):
        named = {"run": run["id"], "step": run.get("step"), "run_name": run.get("name")} | named
    if isinstance(options, dict):
        named |= options
    arguments += [f"{name}={_literal(value)}" for name, value in named.items() if value is not None]
    key = "  # the key stands in SADDLESCOPE_API_KEY" if auth is Auth.KEYS else ""
    said = ",\n".join("    " + argument.replace("\n", "\n    ") for argument in arguments)
    return (
        f"import saddlescope\n\nclient = saddlescope.Client({base!r}){key}\n"
        f"job = client.submit(\n{said},\n)\nprint(job.wait().summary)"
    )


def _source(source: JsonValue, file: str) -> str:
    """Numbers as they are; of bytes the file, which whoever asks again has himself."""
    if isinstance(source, dict) and "inline" in source:
        return _literal(source["inline"])
    return repr(file)


def _loss(loss: JsonValue) -> str:
    if isinstance(loss, dict) and set(loss) == {"kind", "expression"}:
        return _literal(loss["expression"])
    if isinstance(loss, dict) and loss["kind"] == "program":
        return _literal(loss | {"program": "loss.pt2"})
    return _literal(loss)


def _literal(value: JsonValue) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False)
