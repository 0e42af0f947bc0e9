"""The pages as a static site: all there, every link and picture leads somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.generate.navigation import SECTIONS
from docs.generate.site import address_of, write_site

REPOSITORY = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a":
            self.targets.append(given["href"])
        if tag in ("img", "script", "link", "iframe"):
            self.loaded.append(given.get("src") or given.get("href") or "inline")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_site(folder)
    return folder


def test_the_site_holds_every_page_of_the_documentation(site) -> None:
    shown = {page for section in SECTIONS for page in section.pages}
    written = {str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").rglob("*.md")}
    assert shown == written | {"README.md", "CHANGELOG.md"}
    assert {str(page.relative_to(site)) for page in site.rglob("*.html")} == {address_of(page) for page in shown}


def test_every_link_and_every_anchor_of_the_site_leads_somewhere(site) -> None:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            leads_to = (path.parent / file).resolve() if file else path
            if not leads_to.is_file() or (anchor and anchor not in pages[leads_to].anchors):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert broken == []


def test_a_page_loads_its_style_and_its_pictures_and_nothing_of_another_host(site) -> None:
    for path in site.rglob("*.html"):
        for target in Page(path.read_text(encoding="utf-8")).loaded:
            assert (path.parent / target).is_file(), f"{path.name}: {target}"


def test_a_block_that_the_tests_do_not_run_says_so_on_the_page(site) -> None:
    text = (site / "docs" / "how-to" / "slurm.html").read_text(encoding="utf-8")
    assert "Not run by the tests: needs a Slurm cluster." in text


def test_a_folder_of_other_files_is_not_replaced_by_a_site(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files"):
        write_site(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
