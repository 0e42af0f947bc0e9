"""The one pydantic configuration of the contract: closed, frozen, finite."""

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """A request or answer object that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
