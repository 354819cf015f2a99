"""Attribution: a row per recording with performer, title, source and licence, as the metadata gives them."""

from __future__ import annotations

from pathlib import Path

from talim.corpus.attribution import attribution_line, attributions, rights_of, training_music
from talim.corpus.prepare import prepare


def test_attributions_of_a_prepared_corpus_name_every_recording(folder: Path, record, tmp_path: Path) -> None:
    record("a.wav", 25)
    record("b.wav", 25)
    (folder / "metadata.csv").write_text(
        "file_name,text,title,performer,licence,source\n"
        'a.wav,a flute,"Dawn, slowly",Meera,CC BY 4.0,the radio archive\n'
        "b.wav,a sitar,,,,\n",
        encoding="utf-8",
    )
    corpus = prepare(folder, tmp_path / "corpus", sample_rate=8000)
    first, second = attributions(corpus.clips)
    assert first == {
        "recording": "a",
        "file": "a.wav",
        "performer": "Meera",
        "title": "Dawn, slowly",
        "source": "the radio archive",
        "licence": "CC BY 4.0",
        "consent": "unknown",
    }
    assert attribution_line(first) == "Dawn, slowly, by Meera (a.wav); source: the radio archive; licence: CC BY 4.0"
    assert (second["recording"], second["title"], second["licence"]) == ("b", "b", "unknown")
    assert attribution_line(second) == "b, performer unknown (b.wav); source: unknown; licence: unknown"


def test_attributions_join_what_differs_between_clips_of_one_recording(folder: Path, record, tmp_path: Path) -> None:
    record("a.wav", 25)
    record("b.wav", 25)
    clips = prepare(folder, tmp_path / "corpus", sample_rate=8000).clips
    one = clips[0].model_copy(update={"licence": "CC BY 4.0"})
    other = clips[0].model_copy(update={"licence": "CC0 1.0"})
    assert [row["licence"] for row in attributions([one, other, one])] == ["CC BY 4.0; CC0 1.0"]


def test_training_music_counts_rights_of_what_was_trained_on_apart(folder: Path, record, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        record(f"{name}.wav", 25)
    clips = prepare(folder, tmp_path / "corpus", sample_rate=8000).clips
    licences = {"a": "CC BY 4.0", "b": "CC0 1.0", "c": "CC BY-NC-ND 4.0"}
    clips = [clip.model_copy(update={"licence": licences[clip.recording], "shares_sound_with": ""}) for clip in clips]
    trained = [clip for clip in clips if clip.recording == "a"]
    music = training_music(trained, clips)  # a recording that is on both sides was trained on
    assert music["trained_on"]["rights"]["licences"] == {"CC BY 4.0": 1}
    assert music["trained_on"]["clips"] == len(trained)
    texts = ("b", "a", "a", " ", *"cdefg")
    told = training_music([clips[0].model_copy(update={"caption": text}) for text in texts], clips)
    assert told["trained_on"]["captions"] == ["a", "b", "c", "d", "e"]  # the most frequent first, none without words
    assert music["kept_out"]["recordings"] == 2
    assert music["kept_out"]["rights"]["licences"] == {"CC BY-NC-ND 4.0": 1, "CC0 1.0": 1}
    assert rights_of([])["licences"] == {}
