"""What is generated from the code is checked in as the code is."""

from __future__ import annotations

import pytest

from docs.generate.__main__ import PAGES, REFERENCE


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_pages_are_current(name) -> None:
    is_current = (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name]()
    assert is_current, "run `python -m docs.generate reference`"
