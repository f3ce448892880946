"""The helper that drives Chromium: it sees what is wrong with a page, and leaves nothing."""

import psutil
import pytest
from browser import Browser
from PIL import Image

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium for all of them
GOOD = """<!doctype html><meta name="viewport" content="width=device-width"><title>good</title>
<script>document.title += " page"</script><p>text"""
BAD = """<!doctype html><title>bad</title><img src="nowhere.png" alt="">
<script>console.error("said", 1); setTimeout(() => { thrown() }); fetch("data:,")</script>"""


def test_a_good_page_has_no_errors_and_is_seen_as_scripts_left_it(browser, tmp_path):
    (tmp_path / "good.html").write_text(GOOD)
    with browser.open(tmp_path / "good.html", width=390, height=300) as page:
        assert page.errors == [] and page.requests == [(tmp_path / "good.html").as_uri()]
        assert "<title>good page</title>" in page.dom()
        assert page.evaluate("[innerWidth, innerHeight]") == [390, 300]
        page.colours("dark")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        with Image.open(page.screenshot(tmp_path / "picture.png")) as picture:
            assert picture.size == (390, 300)


def test_errors_of_a_page_are_seen(browser, tmp_path):
    (tmp_path / "bad.html").write_text(BAD)
    with browser.open(tmp_path / "bad.html") as page:
        page.evaluate("new Promise(done => setTimeout(done, 50))")
        assert len(page.errors) == 3
        for seen in ("said 1", "thrown is not defined", "nowhere.png"):
            assert any(seen in error for error in page.errors)
        with pytest.raises(AssertionError, match="missing is not defined"):
            page.evaluate("missing")
    with pytest.raises(AssertionError, match="ERR_FILE_NOT_FOUND"), browser.open(tmp_path / "none.html"):
        pass


def test_nothing_is_left_of_it(tmp_path):
    with Browser() as browser:
        family = psutil.Process(browser.process.pid).children(recursive=True)
        with browser.open("data:text/html,hello") as page:
            family += psutil.Process(browser.process.pid).children(recursive=True)
            assert "hello" in page.dom()
    assert len(family) > 2 and not any(process.is_running() for process in family)
