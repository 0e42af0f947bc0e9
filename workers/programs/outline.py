"""How many parts a program has, counted before any of them is looked at."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault

# A hundred layers of a transformer have some four thousand nodes; each costs a tenth of a millisecond to read and check.
MAX_NODES = 20_000
MAX_DESCRIBED = 2 * MAX_NODES


class _Unread(BaseModel):
    """Any object, whatever it says."""

    model_config = ConfigDict(extra="ignore")


class _Graph(_Unread):
    nodes: list[_Unread]
    tensor_values: dict[str, _Unread]


class _Signature(_Unread):
    input_specs: list[_Unread]
    output_specs: list[_Unread]


class _Module(_Unread):
    graph: _Graph
    signature: _Signature


class _Outline(_Unread):
    graph_module: _Module


def check_counts(raw: bytes) -> None:
    """Raises JobFault, `resource_limit`, for a program of too many parts, and ValidationError for what is none."""
    found = _Outline.model_validate_json(raw).graph_module
    for what, num_parts, most in (
        ("nodes", len(found.graph.nodes), MAX_NODES),
        ("described tensors", len(found.graph.tensor_values), MAX_DESCRIBED),
        ("inputs", len(found.signature.input_specs), MAX_NODES),
        ("outputs", len(found.signature.output_specs), MAX_NODES),
    ):
        if num_parts > most:
            raise JobFault(
                FailureCode.RESOURCE_LIMIT,
                f"the program has {num_parts} {what}; at most {most} are taken",
                "/loss/program",
            )
