"""Tables that stand in a page between `<!-- name -->` and `<!-- end of name -->`."""

from __future__ import annotations


def with_table(page: str, name: str, table: str) -> str:
    """The page with this table in the place of the one that was there.

    Raises:
        ValueError: unless both marks are there.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"the page has no place for {name}: {begin.strip()} … {end}")
    return f"{before}{begin}{table}{end}{after}"
