"""A picture on a page: its name, and the address where it stands alone."""

from __future__ import annotations

from dataclasses import dataclass

from service.svg import Picture


@dataclass(frozen=True)
class Figure:
    name: str
    picture: Picture
    url: str | None = None
