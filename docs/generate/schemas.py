"""JSON Schema in words: the type of a field, and the table of an object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from docs.generate.wording import slug, table

Schema = Mapping[str, object]
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "matching `{}`",
}


def title_of(name: str) -> str:
    """Two classes of one name have their modules in front, with underscores."""
    package, separator, rest = name.partition("__")
    return f"{rest.rpartition('__')[2]} of {package}" if separator else name


def type_of(schema: object) -> str:
    """`list of number`, `[Job](#job) or null`, `"mean" or "sum"`, with the limits there are."""
    match schema:
        case {"$ref": str(reference)}:
            title = title_of(reference.rpartition("/")[2])
            return f"[{title}](#{slug(title)})"
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": list(values)}:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": list(choices)} | {"oneOf": list(choices)}:
            return " or ".join(dict.fromkeys(type_of(choice) for choice in choices))
        case {"type": "array", "prefixItems": list(items)}:
            return f"list of {', '.join(type_of(item) for item in items)}"
        case {"type": "array"}:
            return f"list of {type_of(schema.get('items', {}))}{_limits(schema)}"
        case {"type": "object", "additionalProperties": Mapping() as values}:
            return f"object of {type_of(values)}"
        case {"type": str(kind)}:
            of_format = f" ({schema['format']})" if "format" in schema else ""
            return f"{kind}{of_format}{_limits(schema)}"
    return "any JSON"


def _limits(schema: Mapping[object, object]) -> str:
    said = [words.format(_plain(schema[name])) for name, words in _LIMITS.items() if name in schema]
    return f" {', '.join(said)}" if said else ""


def _plain(limit: object) -> object:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def object_section(name: str, schema: Schema) -> str:
    """Heading, description and fields of one object; the words of a closed set."""
    parts = [f"### {title_of(name)}\n"]
    if description := schema.get("description"):
        parts.append(f"{' '.join(str(description).split())}\n")
    match schema:
        case {"properties": Mapping() as properties}:
            required = schema.get("required", ())
            assert isinstance(required, Sequence)
            parts.append(table(("field", "type", ""), [_row(field, of, required) for field, of in properties.items()]))
        case {}:
            parts.append(f"{type_of(schema)}\n")
    return "\n".join(parts)


def _row(field: str, schema: object, required: Sequence[object]) -> tuple[str, str, str]:
    assert isinstance(schema, Mapping)
    said = [str(schema["description"])] if "description" in schema else []
    if field not in required and "default" in schema:
        said.append(f"Default `{json.dumps(schema['default'], ensure_ascii=False)}`.")
    elif field not in required:
        said.append("Optional.")
    return f"`{field}`", type_of(schema), " ".join(said)
