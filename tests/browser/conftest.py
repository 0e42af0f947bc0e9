from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from browsing import DESK, Watch, chromium
from e2e_service import Service, running_service
from playwright.sync_api import Browser, Page, expect

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """Pages of contexts of their own; at the end none may have complained."""
    opened: list[tuple[Page, Watch]] = []

    def build(*, size: tuple[int, int] = DESK, forgiving: str | None = None, **options: object) -> Page:
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(base_url=str(service.client.base_url), viewport=viewport, **options)
        page = context.new_page()
        page.set_default_timeout(30_000)
        opened.append((page, Watch(page, forgiving)))
        return page

    yield build
    complaints = [complaint for _, watch in opened for complaint in watch.errors]
    for page, _ in opened:
        page.context.close()
    assert complaints == []
