"""Columns that hold a value of the contract as JSON, parsed on the way out."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, JsonValue
from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator

Value = TypeVar("Value", bound=BaseModel)


class ValueOf(TypeDecorator[Value], Generic[Value]):
    """A contract model as JSON.

    PostgreSQL's `json`, not `jsonb`: the order of the tensors in a request is the order of θ, and `jsonb` forgets it.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, model: type[Value]) -> None:
        super().__init__(none_as_null=True)
        self.model = model

    def process_bind_param(self, value: Value | None, dialect: Dialect) -> JsonValue:
        return None if value is None else value.model_dump(mode="json")

    def process_result_value(self, value: JsonValue, dialect: Dialect) -> Value | None:
        return None if value is None else self.model.model_validate(value)
