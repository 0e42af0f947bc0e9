"""The order in which the site shows the pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Section:
    title: str
    pages: tuple[str, ...]


def _pages_in(folder: str) -> tuple[str, ...]:
    return tuple(str(page.relative_to(REPOSITORY)) for page in sorted((REPOSITORY / folder).glob("*.md")))


SECTIONS = (
    Section("Start", ("README.md", "docs/index.md", "docs/tutorial.md", "docs/guide.md")),
    Section("How to", _pages_in("docs/how-to")),
    Section("Understand", ("docs/concepts.md", "docs/glossary.md", "docs/way-out.md", "docs/study.md")),
    Section("Reference", ("docs/http-api.md", *_pages_in("docs/reference"))),
    Section("Run", ("docs/operations.md", "docs/security.md", "docs/performance.md", "docs/scaling.md")),
    Section("Change", ("docs/contributing.md", "CHANGELOG.md", *_pages_in("docs/decisions"))),
)
