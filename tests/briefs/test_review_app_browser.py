"""Reviews in a real browser: by keyboard alone, on a phone, closed in the middle, in Japanese; and what axe finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.brief_folder import brief_of, opened_brief, tone, write_candidates
from fixtures.brief_folder import decide as reviewed_by_one
from fixtures.browser import CHROMIUM, PHONE, launched, number, open_page, overflows, shoot, tab_to, violations
from fixtures.listening_client import served_app

from talim.atomic_io import read_jsonl, write_jsonl
from talim.briefs import phrase as phrases
from talim.briefs.report import write_acceptance_report
from talim.briefs.review_app import create_app
from talim.briefs.review_session import ReviewSession, open_brief

PHRASE = {"file": "theme.wav", "rights": "my own recording"}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with launched() as created:
        yield created


def link_of(opened: ReviewSession, start: str) -> str:
    return f"{start}/#{opened.store.invite(1)[0]['token']}"


def hear(page: Any) -> None:
    page.click(".sound button")
    page.wait_for_function("() => document.querySelector('.sound small').textContent !== 'not yet heard'")


def decide(page: Any, verdict: str) -> None:
    before = number(page)
    hear(page)
    page.check(f'input[name="verdict"][value="{verdict}"]', force=True)
    if verdict != "accept":
        page.check('input[name="reason"][value="melody"]')
        page.fill("#note", "the end\ttoo")
    page.click("button.main")
    page.wait_for_function("before => document.querySelector('h1').textContent !== before", arg=before)


def test_review_page_closed_midway_resumes_on_phone(tmp_path: Path, browser: Any) -> None:
    opened = opened_brief(tmp_path / "b", brief_of(candidates=2, minimum_seconds=0.3, loop=True))
    with served_app(create_app(opened)) as start:
        link = link_of(opened, start)
        desk = open_page(browser, link, color_scheme="light")
        assert violations(desk) == []
        shoot(desk, "review-welcome")
        desk.click("button.main")
        assert "agree" in desk.inner_text("#status")
        desk.check("#agree")
        desk.click("button.main")
        desk.wait_for_selector("progress")
        desk.click("button.main")
        assert "listen to" in desk.inner_text("#status")
        hear(desk)
        desk.click("button.main")
        assert "decide" in desk.inner_text("#status")
        desk.check('input[name="verdict"][value="reject"]', force=True)
        desk.click("button.main")
        assert "say why" in desk.inner_text("#status")
        assert violations(desk) == []
        shoot(desk, "review-candidate")
        decide(desk, "reject")
        decide(desk, "accept")
        desk.close()
        phone = open_page(browser, link, viewport=PHONE, has_touch=True, color_scheme="dark")
        phone.wait_for_selector("progress")
        assert number(phone) == "Candidate 3 of 4"
        assert not overflows(phone)
        assert violations(phone) == []
        shoot(phone, "review-phone")
        phone.click("#pause")
        assert link in phone.inner_text("main")
        phone.click("button.main")
        phone.wait_for_selector("progress")
        decide(phone, "edit")
        decide(phone, "accept")
        assert number(phone) == "Thank you"
    rows = opened.store.rows()
    assert sorted(row["verdict"] for row in rows) == ["accept", "accept", "edit", "reject"]
    assert {row["note"] for row in rows} == {"", "the end too"}
    assert min(row["listened_seconds"] for row in rows) >= 0.3


def test_review_page_works_by_keyboard_and_in_japanese(tmp_path: Path, browser: Any) -> None:
    opened = opened_brief(tmp_path / "b", brief_of(candidates=1, minimum_seconds=0.3))
    with served_app(create_app(opened)) as start:
        page = open_page(browser, link_of(opened, start), locale="ja-JP")
        assert page.inner_text("h1") == "候補曲の審査"
        shoot(page, "review-ja")
        tab_to(page, "e.id === 'agree'")
        page.keyboard.press("Space")
        for index in range(2):
            tab_to(page, "e.classList.contains('main')")
            page.keyboard.press("Enter")
            page.wait_for_function(f"() => document.querySelector('h1').textContent.includes('{index + 1} 曲目')")
            tab_to(page, "e.closest('.sound') && e.tagName === 'BUTTON'")
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelector('.sound small').textContent === '聴取済み'")
            tab_to(page, "e.name === 'verdict'")
            page.keyboard.press("Space")
        tab_to(page, "e.classList.contains('main')")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('h1').textContent === 'ありがとうございました'")
    assert [row["verdict"] for row in opened.store.rows()] == ["accept", "accept"]


def test_usefulness_page_is_accessible_and_fits_phone(tmp_path: Path, browser: Any) -> None:
    opened = opened_brief(tmp_path / "b", brief_of(indicators=[{"name": "skips", "better": "lower"}]))
    reviewed_by_one(opened, {"linear-001": "accept", "linear-002": "edit"})
    link = Path(write_acceptance_report(tmp_path / "b", opened.brief)["page"]).as_uri()
    for settings in ({"color_scheme": "light"}, {"viewport": PHONE, "color_scheme": "dark"}):
        page = open_page(browser, link, **settings)
        assert violations(page) == []
        assert not overflows(page)
        shoot(page, f"usefulness-{settings['color_scheme']}")


def test_review_page_plays_phrase_and_new_music(tmp_path: Path, browser: Any) -> None:
    """The phrase has a player of its own, which counts for nothing; a button plays from where the new music begins."""
    folder, brief = tmp_path / "b", brief_of(candidates=1, minimum_seconds=1.0, phrase=PHRASE, prompt=None)
    write_candidates(folder, brief, ("linear",))
    tone(9, 0.8).save(folder / phrases.FILE)
    rows = read_jsonl(folder / "candidates.jsonl")
    write_jsonl(folder / "candidates.jsonl", [row | {"phrase_seconds": 0.8} for row in rows])
    opened = open_brief(folder, brief)
    with served_app(create_app(opened)) as start:
        page = open_page(browser, link_of(opened, start))
        assert "made from a phrase" in page.inner_text("main")
        assert "Music:" not in page.inner_text("main")
        page.check("#agree")
        page.click("button.main")
        page.wait_for_selector(".phrase .sound button")
        assert violations(page) == []
        shoot(page, "review-phrase")
        page.click(".phrase .sound button")
        page.wait_for_function("() => document.querySelector('.phrase .sound input').value > 50")
        assert page.inner_text(".sound small") == "not yet heard"
        page.click("text=Play from where the new music begins")
        page.wait_for_function("() => Number(document.querySelector('main > .sound input').value) > 60")
        page.wait_for_function("() => document.querySelector('main > .sound button').textContent.startsWith('Play')")
        assert page.inner_text("main > .sound small") == "not yet heard"  # the phrase before it does not count
        decide(page, "accept")
    assert [row["verdict"] for row in opened.store.rows()] == ["accept"]
