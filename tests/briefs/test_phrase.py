"""A brief's phrase: what candidates are made of, what is recorded and checked of them, and what is refused."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from fastapi.testclient import TestClient
from fixtures.brief_folder import RIGHTS, Reviewer, brief_of, decide, opened_brief
from fixtures.listening_client import FREE
from fixtures.log_lines import Lines

from talim import audio
from talim.atomic_io import read_json, read_jsonl, write_jsonl
from talim.audio import Audio
from talim.backbones.load import load as load_backbone
from talim.briefs import automatic_checks, candidates, delivery, usage_rights
from talim.briefs import brief as briefs_brief
from talim.briefs import phrase as phrases
from talim.briefs.report import write_acceptance_report
from talim.briefs.review_app import create_app
from talim.briefs.review_session import open_brief
from talim.cli import main
from talim.errors import TalimError, UsageError

RATE_HZ = 16_000
PHRASE = {"file": "sound/my alap.wav", "rights": "my own recording"}
BRIEF = {"name": "jingle", "seconds": 1, "loudness_lufs": -30, "prompt": "slow glide", "candidates": 2}
BRIEF |= {"minimum_seconds": 0.5}


def write_phrase(folder: Path, seed: int = 1, seconds: float = 0.8) -> Path:
    """A phrase below the brief's folder, in stereo and at another rate than the base's."""
    (folder / "sound").mkdir(exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (2, round(44_100 * seconds))).astype(np.float32)
    return Audio(samples, 44_100).save(folder / "sound" / "my alap.wav")


def write_brief(folder: Path, phrase: dict[str, Any] | None, **changes: Any) -> Path:
    values = BRIEF | ({"phrase": PHRASE | phrase} if phrase is not None else {}) | changes
    path = folder / "jingle.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> tuple[Path, Lines]:
    """The candidates of a brief with a kept phrase, and what was said (read only by agreement)."""
    folder, log = tmp_path_factory.mktemp("brief"), Lines()
    write_phrase(folder)
    brief = briefs_brief.load(write_brief(folder, {}, tempo_bpm=90))
    candidates.generate_candidates(brief, [tiny_run], folder / "out", log)
    return folder, log


def test_candidates_begin_with_the_phrase_and_record_it(made: tuple[Path, Lines]) -> None:
    folder, log = made
    rows = candidates.read_candidates(folder / "out")
    own = audio.read(folder / "sound" / "my alap.wav")
    expected = own.resample(RATE_HZ).mono().samples[0]
    for row in rows:
        piece = audio.read(folder / "out" / row["file"])
        assert piece.seconds == pytest.approx(1.8, abs=1e-3)
        assert (row["seconds"], row["phrase_seconds"]) == (pytest.approx(1.8, abs=1e-3), 0.8)
        middle = slice(2000, 12_000)  # its own sound, but for the level
        assert np.corrcoef(piece.samples[0, middle], expected[middle])[0, 1] > 0.999
        tags = audio.read_tags(folder / "out" / row["file"])
        assert (tags["phrase"], tags["phrase_kept"], tags["phrase_use"]) == ("my alap.wav", "yes", "continued")
        assert tags["phrase_sha256"] == audio.content_hash(own)
        assert tags["phrase_rights"] == "my own recording (given by the user, not checked by talim)"
        assert tags["ai_generated_from_seconds"] == "0.800"
        assert tags["ai_generated"] == "AI-generated"
    new = [audio.read(folder / "out" / row["file"]).samples[0, 13_000:] for row in rows]
    assert not np.array_equal(new[0], new[1])
    (line,) = [line for line in log.lines if line.startswith("phrase my alap.wav: ")]
    assert "resampled from 44100 to 16000 Hz" in line
    facts = read_json(folder / "out" / candidates.CONTENDERS)["linear"]
    assert facts["rights"]["phrase"] == {"file": "my alap.wav", "rights": "my own recording"}


def test_candidates_from_a_phrase_are_made_together_and_each_is_that_of_its_seed(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phrase(tmp_path)
    brief = briefs_brief.load(write_brief(tmp_path, {}))
    used, base = phrases.read_brief_phrase(brief, str(tiny_base)), load_backbone(tiny_base)
    assert used
    calls: list[int] = []
    parts = type(base).generate_parts
    monkeypatch.setattr(
        type(base), "generate_parts", lambda *a, **named: (calls.append(len(a[1])), parts(*a, **named))[1]
    )
    missing = [(seed, f"key {seed}") for seed in (4, 9, 5)]
    rows = list(candidates._clips(base, missing, brief, used, {}, Lines()))
    assert calls == [3]
    assert [(seed, key) for seed, key, *_ in rows] == missing
    for seed, _, clip, _ in rows:
        alone = base.generate_from(used.phrase.audio, "slow glide", 1.0, seed).read()
        assert np.array_equal(clip.read().samples, alone.samples)


def test_checks_say_what_part_they_judge(made: tuple[Path, Lines]) -> None:
    row = candidates.read_candidates(made[0] / "out")[0]
    parts = {check["name"]: check["part"] for check in row["checks"]}
    whole = {"loudness": "phrase and new music"}
    assert parts == dict.fromkeys(("length", "clipping", "silence", "tempo", "originality"), "new music") | whole
    assert next(check for check in row["checks"] if check["name"] == "length")["measured"] == "1.00 s"


def test_reviewers_hear_phrase_and_continuation(made: tuple[Path, Lines]) -> None:
    folder, _ = made
    brief = briefs_brief.load(folder / "jingle.yaml")
    opened = open_brief(folder / "out", brief)
    with TestClient(create_app(opened, FREE), base_url="http://localhost") as client:
        reviewer = Reviewer(client, opened).begin()
        assert reviewer.get("/api/session").json()["brief"]["phrase"] is True
        turn = reviewer.post("/api/candidate").json()
        assert turn["phrase"]["kept_seconds"] == 0.8
        assert turn["minimum_seconds"] == pytest.approx(1.3)  # half a second of the new music is heard
        sounds = [reviewer.get(f"/api/audio/{name}").content for name in (turn["audio"], turn["phrase"]["audio"])]
        assert turn["phrase"]["audio"] != turn["audio"]
        lengths = [soundfile.info(io.BytesIO(sound)).duration for sound in sounds]
        assert lengths == pytest.approx([1.8, 0.8], abs=1e-3)
        assert "alap" not in str(turn)
        early = reviewer.post("/api/reviews", reviewer.review_body() | {"listened_seconds": 0.9})
        assert (early.status_code, "not_listened" in early.text) == (409, True)


def test_phrase_is_left_out_or_its_end_used(tmp_path: Path, tiny_run: Path) -> None:
    write_phrase(tmp_path)
    brief = briefs_brief.load(write_brief(tmp_path, {"keep": False, "seconds": 0.5}, candidates=1, prompt=None))
    log = Lines()
    (row,) = candidates.generate_candidates(brief, [tiny_run], tmp_path / "out", log)
    assert (row["seconds"], row["phrase_seconds"]) == (1.0, 0.0)
    tags = row["tags"]
    assert (tags["phrase_kept"], tags["phrase_seconds"], tags["title"]) == ("no", "0.500", "from my alap.wav")
    assert "ai_generated_from_seconds" not in tags
    assert {check["part"] for check in row["checks"]} == {"new music"}
    assert any("the prompt is empty" in line for line in log.lines)
    assert audio.read(tmp_path / "out" / phrases.FILE).seconds == pytest.approx(0.5)


def test_loop_with_a_phrase_fades_into_its_beginning_and_says_so(tmp_path: Path, tiny_run: Path) -> None:
    write_phrase(tmp_path)
    brief = briefs_brief.load(write_brief(tmp_path, {}, candidates=1, loop=True))
    (row,) = candidates.generate_candidates(brief, [tiny_run], tmp_path / "out")
    assert row["seconds"] == pytest.approx(1.8, abs=1e-3)
    assert row["tags"]["ai_generated_from_seconds"] == "0.000"
    parts = {check["name"]: check["part"] for check in row["checks"]}
    assert parts["seam"] == "phrase and new music"


def test_candidates_of_another_phrase_are_not_mixed(tmp_path: Path, tiny_run: Path) -> None:
    write_phrase(tmp_path)
    out, brief = tmp_path / "out", briefs_brief.load(write_brief(tmp_path, {}))
    first = candidates.generate_candidates(brief, [tiny_run], out)
    assert candidates.generate_candidates(brief, [tiny_run], out) == first
    write_jsonl(out / candidates.TABLE, first[:1])  # as after an interruption
    write_phrase(tmp_path, seed=2)  # of the same name and length
    with pytest.raises(TalimError, match="made for another phrase than that of this brief"):
        candidates.require_current(out, brief, first[:1])
    second = candidates.generate_candidates(brief, [tiny_run], out)
    assert len({row["tags"]["phrase_sha256"] for row in [*first, *second]}) == 2
    assert len({row["tags"]["phrase_sha256"] for row in second}) == 1
    candidates.require_current(out, brief, second)
    write_phrase(tmp_path, seed=3)
    with pytest.raises(TalimError, match="reviewed and are frozen"):
        candidates.generate_candidates(brief, [tiny_run], out, frozen=True)
    without = briefs_brief.load(write_brief(tmp_path, None))
    with pytest.raises(TalimError, match="another phrase"):
        candidates.require_current(out, without, second)
    other = briefs_brief.load(write_brief(tmp_path, {"rights": "CC BY 4.0"}))
    write_phrase(tmp_path, seed=2)
    with pytest.raises(TalimError, match="made for other music"):
        candidates.require_current(out, other, second)
    (tmp_path / "sound" / "my alap.wav").unlink()  # on the machine of the reviewers
    candidates.require_current(out, brief, second)


def test_brief_without_a_phrase_keeps_its_hash_and_its_keys(tmp_path: Path) -> None:
    brief = brief_of()
    assert "phrase" not in brief.model_dump(mode="json")
    assert "phrase" in brief_of(phrase=PHRASE).model_dump(mode="json")
    candidates.require_current(tmp_path, brief, [{"id": "x", "tags": {}}])  # of before phrases were recorded


def piece(new: np.ndarray, phrase: np.ndarray, path: Path) -> Path:
    audio.write(path, Audio(np.concatenate([phrase, new])[None].astype(np.float32), RATE_HZ), {})
    return path


def tone(seconds: float, level: float = 0.2) -> np.ndarray:
    return level * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)


def clicks(seconds: float, period_seconds: float) -> np.ndarray:
    sound = np.zeros(round(seconds * RATE_HZ))
    for start in range(0, sound.size - 400, round(period_seconds * RATE_HZ)):
        sound[start : start + 400] = tone(400 / RATE_HZ, 0.8)
    return sound


def test_checks_judge_new_music_alone(tmp_path: Path) -> None:
    """A phrase neither spoils what comes after it, nor passes for it."""
    good, bad = tone(2.0), np.concatenate([np.clip(tone(0.5, 8.0), -1, 1), np.zeros(2 * RATE_HZ)])

    def passed(phrase: np.ndarray, new: np.ndarray, **changes: Any) -> dict[str, bool | None]:
        brief = brief_of(seconds=new.size / RATE_HZ, **changes)
        heard: list[float] = []

        def originality(path: Path) -> automatic_checks.CheckResult:
            heard.append(audio.read(path).seconds)
            return automatic_checks.CheckResult("originality", True, "")

        path = piece(new, phrase, tmp_path / "x.flac")
        rows = automatic_checks.run_checks(path, brief, originality, phrase.size / RATE_HZ)
        assert heard == [pytest.approx(new.size / RATE_HZ)]
        return {row["name"]: row["passed"] for row in rows}

    spoiled, fine = passed(good, bad), passed(bad, good)
    assert (spoiled["clipping"], spoiled["silence"], spoiled["length"]) == (False, False, True)
    assert (fine["clipping"], fine["silence"], fine["length"]) == (True, True, True)
    slow, fast = clicks(8.0, 0.8), clicks(8.0, 0.5)  # 75 and 120 bpm
    assert passed(fast, slow, tempo_bpm=120.0)["tempo"] is False
    assert passed(slow, fast, tempo_bpm=120.0)["tempo"] is True


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ({"file": "sound/my alapp.wav"}, r"my alapp.wav: cannot be read.*did you mean .*my alap.wav"),
        ({"strength": 0.4}, r"^phrase.strength is no option of .*, which goes on from the end of a phrase"),
        ({"file": "sound/silent.wav"}, r"^phrase.file: what is used of silent.wav is silent.*larger phrase.seconds"),
        ({"file": "sound"}, "is a folder, expected a sound file"),
        ({"file": "jingle.yaml"}, "jingle.yaml"),
    ],
    ids=str,
)
def test_invalid_phrase_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_run: Path, phrase: dict[str, Any], message: str
) -> None:
    write_phrase(tmp_path)
    Audio(np.zeros((1, 8000), np.float32), 8000).save(tmp_path / "sound" / "silent.wav")
    brief = briefs_brief.load(write_brief(tmp_path, phrase))
    with pytest.raises(TalimError, match=message) as raised:
        candidates.generate_candidates(brief, [tiny_run], tmp_path / "out")
    assert not re.search("--(continue|strength|leave)", str(raised.value))  # options of another command
    assert not (tmp_path / "out").exists()


def test_variation_has_the_length_of_its_phrase(tmp_path: Path) -> None:
    write_phrase(tmp_path, seconds=1.0)
    brief = briefs_brief.load(write_brief(tmp_path, {}))
    used = phrases.read_brief_phrase(brief, "nano-mustango")
    assert used
    assert (used.kept_seconds, used.parts) == (0.0, ("variation of the phrase", "variation of the phrase"))
    assert (used.tags["phrase_use"], used.tags["strength"]) == ("varied", "0.5")
    sampling = {"guidance_scale": 1.0, "sampling_steps": 2}
    ((*_, clip, _),) = candidates._clips(load_backbone("nano-mustango"), [(0, "")], brief, used, sampling, Lines())
    assert clip.read().seconds == used.seconds_of(99.0) == pytest.approx(1.0)
    long = briefs_brief.load(write_brief(tmp_path, {}, seconds=3))
    with pytest.raises(UsageError, match=r"what is used of it lasts 1.00 s, and the brief asks for 3 s.*seconds: 1"):
        phrases.read_brief_phrase(long, "nano-mustango")
    loop = briefs_brief.load(write_brief(tmp_path, {}, loop=True))
    with pytest.raises(UsageError, match=r"with 0.5 s for the cross-fade of the loop"):
        phrases.read_brief_phrase(loop, "nano-mustango")
    write_phrase(tmp_path, seconds=2.0)
    with pytest.raises(UsageError, match=r"add phrase.seconds: 1 to use its end"):
        phrases.read_brief_phrase(brief, "nano-mustango")
    kept = briefs_brief.load(write_brief(tmp_path, {"keep": False, "seconds": 1}))
    with pytest.raises(UsageError, match=r"keeps nothing of it: leave out phrase.keep: false"):
        phrases.read_brief_phrase(kept, "nano-mustango")


def test_generated_phrase_is_recorded_as_such(tmp_path: Path) -> None:
    path = write_phrase(tmp_path)
    audio.write(path.with_suffix(".flac"), audio.read(path), {"ai_generated": "AI-generated", "software": "talim"})
    brief = briefs_brief.load(write_brief(tmp_path, {"file": "sound/my alap.flac"}))
    used = phrases.read_brief_phrase(brief, "nano-musicgen")
    assert used
    assert used.tags["phrase_ai_generated"] == "AI-generated"
    phrases.write_phrase(tmp_path, brief, used)
    assert audio.read_tags(tmp_path / phrases.FILE)["ai_generated"] == "AI-generated"


@pytest.mark.parametrize(
    ("rights", "use"),
    [
        ("my own recording", "allowed"),
        ("kendi kaydım", "allowed"),
        ("CC BY 4.0", "allowed"),
        ("CC BY-NC 4.0", "forbidden"),
        ("from a film", "unknown"),
    ],
)
def test_rights_of_the_phrase_count(rights: str, use: str) -> None:
    run = RIGHTS | {"base": "b", "base_licence": "MIT"}
    given = run | {"phrase": {"file": "my alap.wav", "rights": rights}}
    assert usage_rights.usage_allowed(given)["commercial"] == use
    if use != "allowed":
        assert usage_rights.usage_allowed(given)["reasons"] == [f"the phrase my alap.wav ({rights})"]


def test_export_and_page_name_the_phrase_and_its_rights(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    given = {"file": "my alap.wav", "rights": "CC BY-NC 4.0"}
    brief = brief_of(phrase=given)
    (folder / phrases.FILE).parent.mkdir(parents=True)
    Audio(tone(1.0)[None].astype(np.float32), RATE_HZ).save(folder / phrases.FILE)
    opened = opened_brief(folder, brief, phrase=given)
    decide(opened, {"linear-001": "accept"})
    with pytest.raises(TalimError, match=r"not cleared, because of the phrase my alap.wav \(CC BY-NC 4.0\)"):
        delivery.export_accepted(folder, brief, tmp_path / "sold", commercial=True)
    (row,) = delivery.export_accepted(folder, brief, tmp_path / "given")
    assert "phrase: CC BY-NC 4.0" in row["tags"]["license"]
    assert "phrase my alap.wav" in (tmp_path / "given" / "LICENCE.txt").read_text(encoding="utf-8")
    page = Path(write_acceptance_report(folder, brief)["page"]).read_text(encoding="utf-8")
    assert "2 seconds of new music" in page
    assert "The phrase my alap.wav: CC BY-NC 4.0" in page


def test_brief_opened_without_the_stored_phrase_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="the phrase of this brief is missing; add --run RUN"):
        opened_brief(tmp_path / "b", brief_of(phrase=PHRASE))


def test_command_serves_candidates_only_of_the_phrase_that_the_brief_names(
    tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def talim(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as done:
            main([str(each) for each in arguments])
        result = capsys.readouterr()
        return int(done.value.code or 0), result.out or result.err

    write_phrase(tmp_path)
    file, out = write_brief(tmp_path, {}, candidates=1), tmp_path / "out"
    asked = ("brief", file, "--out", out, "--no-serve")
    status, said = talim(*asked, "--run", tiny_run, "--json")
    assert (status, json.loads(said)["candidates"]) == (0, 1)
    assert talim(*asked)[0] == 0
    assert len(read_jsonl(out / candidates.TABLE)) == 1
    write_phrase(tmp_path, seed=5)
    status, said = talim(*asked)
    assert status == 1
    assert "add --run RUN" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ({"rigths": "x"}, "unknown key phrase.rigths: did you mean rights?"),
        ({"file": None}, "phrase.file"),
        ({"rights": " "}, "phrase.rights is ' ': it is blank"),
        ({"strength": 2}, "phrase.strength is 2"),
        ({"seconds": 0}, "phrase.seconds is 0"),
        ({"keep": "perhaps"}, "phrase.keep is 'perhaps'"),
    ],
    ids=str,
)
def test_brief_with_an_invalid_phrase_is_refused(tmp_path: Path, phrase: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        briefs_brief.load(write_brief(tmp_path, phrase))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_brief_needs_the_rights_of_its_phrase(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(BRIEF | {"phrase": {"file": "a.wav"}}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"phrase\.rights is missing"):
        briefs_brief.load(path)
