"""The documentation as static HTML: every page that the README leads to, one file each, no script and no other host."""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path
from posixpath import normpath, relpath

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from docs.generate.navigation import SECTIONS
from docs.generate.wording import slug

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent / "templates"
STYLE = "style.css"
_LANGUAGES = {"python", "sh", "json", "toml", "yaml"}
_NOT_RUN = re.compile(r"^\w+ not run: (.+)$")


def write_site(folder: Path) -> int:
    """Write all pages, the pictures that they show and the style; the number of pages.

    Raises:
        FileNotFoundError: if a page or a picture that is named does not exist.
        FileExistsError: if the folder holds anything but a site that was written before, which is replaced.
    """
    if folder.exists():
        if any(folder.iterdir()) and not (folder / STYLE).is_file():
            raise FileExistsError(f"{folder} holds other files than a site; give a new folder")
        shutil.rmtree(folder)
    template = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True).get_template(
        "page.html"
    )
    pages = [page for section in SECTIONS for page in section.pages]
    for page in pages:
        address = address_of(page)
        links = [
            (
                section.title,
                [(_from(address, address_of(each)), title_of(each), each == page) for each in section.pages],
            )
            for section in SECTIONS
        ]
        body, files = _to_html((REPOSITORY / page).read_text(encoding="utf-8"), page)
        target = folder / address
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            template.render(title=title_of(page), body=body, sections=links, root=_from(address, ".")), encoding="utf-8"
        )
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / file, folder / file)
    style = (TEMPLATES / STYLE).read_text(encoding="utf-8")
    (folder / STYLE).write_text(style + HtmlFormatter(style="friendly").get_style_defs(".code"), encoding="utf-8")
    return len(pages)


def address_of(page: str) -> str:
    """`docs/guide.md` as `docs/guide.html`, the README as `index.html`."""
    if page == "README.md":
        return "index.html"
    return re.sub(r"\.md$", ".html", re.sub(r"(^|/)README\.md$", r"\1index.html", page))


def title_of(page: str) -> str:
    """The first heading."""
    first = next(line for line in (REPOSITORY / page).read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return first[2:].replace("`", "")


def _to_html(text: str, page: str) -> tuple[str, set[str]]:
    """A page, and the files that it shows or leads to and that are no pages: these come along."""
    markdown = MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")
    tokens = markdown.parse(text)
    files = set()
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(tokens[position + 1].content))
        for child in token.children or ():
            files |= _redirect(child, page)
    return str(markdown.renderer.render(tokens, markdown.options, {})), files


def _redirect(token: Token, page: str) -> set[str]:
    """Lead a link to a page to its HTML; a file that is no page is given back."""
    attribute = {"link_open": "href", "image": "src"}.get(token.type, "")
    target = token.attrGet(attribute) if attribute else None
    if not isinstance(target, str) or "://" in target or target.startswith("#"):
        return set()
    file, separator, anchor = target.partition("#")
    path = normpath((Path(page).parent / file).as_posix())
    if not any(path in section.pages for section in SECTIONS):
        return {path}
    token.attrSet(attribute, _from(address_of(page), address_of(path)) + separator + anchor)
    return set()


def _from(page: str, target: str) -> str:
    return relpath(target, Path(page).parent.as_posix())


def _highlighted(code: str, language: str, rest: str) -> str:
    """A block with its colours, and below it why the tests do not run it, if they do not."""
    info = f"{language} {rest}".strip()
    reason = _NOT_RUN.match(info)
    note = f'<p class="not-run">Not run by the tests: {escape(reason[1])}.</p>' if reason else ""
    if language not in _LANGUAGES:
        return f'<pre class="code">{escape(code)}</pre>{note}'
    coloured = highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    return f'<pre class="code">{coloured}</pre>{note}'
