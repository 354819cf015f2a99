"""Whole sessions in a real browser: by keyboard alone, on a phone, closed in the middle; and what axe finds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.browser import CHROMIUM, PHONE, launched, number, open_page, overflows, shoot, tab_to, violations
from fixtures.japanese_block import foreign_words
from fixtures.listening_client import served
from fixtures.simulated_votes import simulated

from talim.listening.export import to_jsonl
from talim.listening.protocol import load
from talim.listening.ratings_report import rate_folder
from talim.listening.session import ListeningTestSession, open_test

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
NAMES = ("small", "here", "publish: true", "JSONL", "talim ratings", "LUFS", "talim evaluate RUN")
SHORT = {"per_listener": 3, "repeats": 1, "attention": 1, "minimum_seconds": 0.3}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with launched() as created:
        yield created


def fill_in(page: Any) -> None:
    page.check('input[name="group"][value="musician"]')
    page.check('input[name="familiarity"][value="2"]')
    page.check("#agree")
    page.click("button.main")
    page.wait_for_selector("progress")


def hear(page: Any) -> None:
    """Play every sound until it counts as heard."""
    for button in page.query_selector_all(".sound button, .rate button"):
        button.click()
        page.wait_for_timeout(500)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.sound small, .rate small')]"
        ".every(s => s.textContent !== 'not yet heard')"
    )


def answer(page: Any) -> None:
    before = number(page)
    hear(page)
    for fieldset in page.query_selector_all("fieldset"):
        fieldset.query_selector('input[value="1"]').check(force=True)
    for slider in page.query_selector_all(".rate input[id]"):
        slider.fill("70")
    page.click("button.main")
    page.wait_for_function("before => document.querySelector('h1').textContent !== before", arg=before)


def link_of(test: ListeningTestSession, start: str) -> str:
    return f"{start}/#{test.store.invite(1)[0]['token']}"


@pytest.mark.parametrize("kind", ["pairwise", "mushra"])
def test_listening_page_closed_midway_resumes_on_phone(make_test: Make, browser: Any, kind: str) -> None:
    opened = open_test(make_test(kind=kind, reference="real", trials=SHORT))
    with served(opened) as start:
        link = link_of(opened, start)
        desk = open_page(browser, link, color_scheme="light")
        assert violations(desk) == []
        shoot(desk, f"{kind}-welcome")
        fill_in(desk)
        assert number(desk) == "Page 1 of 5"
        assert violations(desk) == []
        shoot(desk, f"{kind}-trial")
        answer(desk)
        answer(desk)
        desk.close()

        phone = open_page(browser, link, viewport=PHONE, has_touch=True, color_scheme="dark")
        phone.wait_for_selector("progress")
        assert number(phone) == "Page 3 of 5"
        assert not overflows(phone)
        assert violations(phone) == []
        shoot(phone, f"{kind}-phone")
        phone.click("#pause")
        assert link in phone.inner_text("main")
        assert not phone.is_visible("#pause")
        shoot(phone, f"{kind}-pause")
        phone.click("button.main")
        phone.wait_for_selector("progress")
        assert phone.is_visible("#pause")
        while number(phone).startswith("Page"):
            answer(phone)
        assert number(phone) == "Thank you"
        assert violations(phone) == []
    rows = opened.store.rows()
    assert len({row["position"] for row in rows}) == 5
    assert opened.store.status()["listeners"][0]["finished_at"]
    if kind == "pairwise":
        assert {row["answer"] for row in rows} == {1}
        assert Counter(row["kind"] for row in rows) == {"normal": 6, "repeat": 2, "attention": 2}
    assert min(row["listened_seconds"] for row in rows) >= 0.3


def keyboard_trial(page: Any, kind: str) -> None:
    before = number(page)
    assert page.evaluate("document.activeElement.tagName") == "H1"  # a screen reader begins there
    count = len(page.query_selector_all(".sound button, .rate button"))
    for index in range(count):
        tab_to(page, f"e === [...document.querySelectorAll('.sound button, .rate button')][{index}]")
        page.keyboard.press("Enter")
        page.wait_for_timeout(600)
    if kind == "pairwise":
        for aspect in ("overall", "melody"):
            tab_to(page, f"e.name === 'aspect-{aspect}'")
            for _ in range(3):
                page.keyboard.press("ArrowRight")
    else:
        for index in range(len(page.query_selector_all(".rate"))):
            tab_to(page, f"e.id === 'rate-{index}'")
            page.keyboard.press("Enter" if index == 0 else "ArrowRight")
    tab_to(page, "e.classList.contains('main')")
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('h1').textContent !== before", arg=before)


@pytest.mark.parametrize("kind", ["pairwise", "mushra"])
def test_listening_page_works_by_keyboard(make_test: Make, browser: Any, kind: str) -> None:
    trials = {"per_listener": 2, "repeats": 0, "attention": 0, "minimum_seconds": 0.2}
    opened = open_test(make_test(kind=kind, reference="real", trials=trials))
    with served(opened) as start:
        page = open_page(browser, link_of(opened, start))
        tab_to(page, "e.name === 'group'")
        page.keyboard.press("Space")
        tab_to(page, "e.name === 'familiarity'")
        page.keyboard.press("ArrowDown")
        tab_to(page, "e.id === 'agree'")
        page.keyboard.press("Space")
        tab_to(page, "e.classList.contains('main')")
        page.keyboard.press("Enter")
        page.wait_for_selector("progress")
        keyboard_trial(page, kind)
        keyboard_trial(page, kind)
        assert number(page) == "Thank you"
    rows = opened.store.rows()
    assert len({row["position"] for row in rows}) == 2
    if kind == "mushra":
        assert {row["score"] for row in rows} == {50, 51}


def test_listening_page_missing_answer_is_announced_and_focused(make_test: Make, browser: Any) -> None:
    opened = open_test(make_test(trials=SHORT))
    with served(opened) as start:
        page = open_page(browser, link_of(opened, start))
        page.click("button.main")
        assert "Please answer" in page.inner_text("#status")
        page.check('input[name="group"][value="general"]')
        page.check('input[name="familiarity"][value="1"]')
        page.click("button.main")
        assert "agree" in page.inner_text("#status")
        assert page.evaluate("document.activeElement.id") == "agree"
        fill_in(page)
        page.click("button.main")
        assert "listen to A" in page.inner_text("#status")
        hear(page)
        page.click("button.main")
        assert page.evaluate("document.activeElement.name") == "aspect-overall"
    assert opened.store.rows() == []


def test_listening_page_japanese_wrong_link_and_deletion(make_test: Make, browser: Any) -> None:
    opened = open_test(make_test(trials=SHORT))
    with served(opened) as start:
        assert "not valid" in number(open_page(browser, f"{start}/#nonsense"))
        page = open_page(browser, link_of(opened, start))
        page.select_option("#language", "ja")
        page.wait_for_function("() => document.documentElement.lang === 'ja'")
        assert page.inner_text("h1") == "このテストについて"
        assert violations(page) == []
        fill_in(page)
        assert number(page) == "5 ページ中 1 ページ目"
        page.click("#pause")
        page.get_by_text("回答を削除する").click()
        page.get_by_text("削除する", exact=True).click()
        page.wait_for_function("() => document.querySelector('h1').textContent.includes('削除されました')")
        assert opened.store.status()["listeners"] == []


def test_listening_page_retries_vote_while_server_is_down(make_test: Make, browser: Any) -> None:
    opened = open_test(make_test(trials=SHORT))
    with served(opened) as start:
        page = open_page(browser, link_of(opened, start))
        fill_in(page)
        tries: list[float] = []

        def away(route: Any) -> None:
            tries.append(time.time())
            route.abort() if len(tries) < 3 else route.continue_()

        page.route("**/api/votes", away)
        answer(page)
        assert len(tries) == 3
        assert number(page) == "Page 2 of 5"
    assert len(opened.store.rows()) == 2


def test_organiser_page_shows_progress_and_creates_links(make_test: Make, browser: Any) -> None:
    opened = open_test(make_test(trials=SHORT))
    with served(opened) as start:
        page = open_page(browser, f"{start}/organiser#{opened.organiser_token}")
        page.wait_for_function("() => document.querySelector('#name').textContent === 'small'")
        page.fill("#count", "2")
        page.click("#links button")
        page.wait_for_selector("#made li")
        assert violations(page) == []
        shoot(page, "organiser")
        link = page.inner_text("#made li")
        page.select_option("#language", "ja")
        page.wait_for_function("() => document.querySelector('#invite').textContent === '参加者の招待'")
        names = [opened.test_hash, *(each.inner_text() for each in page.query_selector_all("#made li, td:first-child"))]
        assert foreign_words(page.inner_text("main"), [*NAMES, *names]) == []
        assert violations(page) == []
        page.select_option("#language", "en")
        assert number(open_page(browser, link)) == "What this is"
        with page.expect_download() as saved:
            page.click('[data-form="csv"]')
        assert saved.value.suggested_filename == "votes.csv"


def test_ratings_page_is_accessible_and_fits_phone(make_test: Make, browser: Any, tmp_path: Path) -> None:
    folder = make_test()
    strengths = {"linear": 0.6, "conv": 0.3, "untrained": -1.2, "real": 1.0}
    rows = [
        row for group in ("expert", "general") for row in simulated(load(folder), strengths, 6, group=group, site=group)
    ]
    (tmp_path / "votes.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    link = Path(rate_folder(folder, [tmp_path / "votes.jsonl"])["page"]).as_uri()
    for settings in ({"color_scheme": "light"}, {"viewport": PHONE, "color_scheme": "dark"}):
        page = open_page(browser, link, **settings)
        assert violations(page) == []
        assert not overflows(page)
        shoot(page, f"ratings-{settings['color_scheme']}")
