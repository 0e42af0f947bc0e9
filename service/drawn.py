"""Pictures that were drawn before. What a picture is drawn from never changes, so it is kept under the names of that."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from service.svg import Picture

MOST_CHARACTERS = 8 * 2**20
# What an entry without pictures takes up.
_ENTRY = 200


@dataclass(frozen=True)
class DrawnPicture:
    """A picture as a page holds it."""

    title: str
    markup: str

    def __html__(self) -> str:
        """For templates, which escape everything that does not say that it is markup."""
        return self.markup


@final
class Drawn:
    """The pictures that pages showed last, at most so many characters of them.

    A key names all that its pictures depend on: what they show and how, and what they are drawn from, by the digests of its
    bytes or by the ids of jobs that have their answer. So there is nothing to grow stale, and only who has been shown these
    names, which a project keeps to itself, can ask for the picture.
    """

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self._most = most_characters
        self._kept: OrderedDict[str, tuple[DrawnPicture, ...]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def pictures(self, *key: str, draw: Callable[[], Iterable[Picture | None]]) -> tuple[DrawnPicture, ...]:
        """Those of the key; drawn now if they are not kept. None of them is drawn for what is None."""
        # No part of a key can be taken for two.
        name = hashlib.sha256("".join(f"{len(part)}:{part}" for part in key).encode()).hexdigest()
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        drawn = tuple(DrawnPicture(picture.title, picture.render()) for picture in draw() if picture is not None)
        with self._lock:
            self._forget(name)
            self._kept[name] = drawn
            self._size += _size(drawn)
            while self._size > self._most:
                self._forget(next(iter(self._kept)))
        return drawn

    @property
    def num_characters(self) -> int:
        return self._size

    def _forget(self, name: str) -> None:
        self._size -= _size(self._kept.pop(name)) if name in self._kept else 0


def _size(drawn: tuple[DrawnPicture, ...]) -> int:
    return _ENTRY + sum(len(picture.title) + len(picture.markup) for picture in drawn)
