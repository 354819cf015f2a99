"""Tests of talim.training.model_card: the Hub's header, missing rights and measures, the loading code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from talim.design.expression import Design
from talim.recipe import Recipe
from talim.training import model_card

COST: dict[str, Any] = {
    "trainable_parameters": 1000,
    "total_parameters": 40000,
    "steps": 9,
    "best_step": 6,
    "best_validation_loss": 3.21,
    "wall_seconds": 120.0,
    "device": "CPU, 2 cores",
    "precision": "fp32",
    "peak_memory_bytes": 2**30,
    "flops": 3e12,
    "energy_joules": None,
    "energy_note": "not measured",
}
TRAINED_ON: dict[str, Any] = {
    "recordings": ["a", "b", "c"],
    "performers": ["meera"],
    "clips": 12,
    "seconds": 120.0,
    "rights": {"licences": {"CC0-1.0": 2, "unknown": 1}, "consent": {"given": 3}},
}
MUSIC: dict[str, Any] = {"trained_on": TRAINED_ON, "kept_out": {"recordings": 0, "rights": {}}}


def card(name: str = "facebook/musicgen-small", licence: str = "CC-BY-NC-4.0", **rest: Any) -> str:
    base = {"name": name, "licence": licence, "miniature": rest.get("miniature", False)}
    base |= {"is_local": rest.get("is_local", False), "revision": rest.get("revision", "")}
    base["transformers_class"] = "" if base["miniature"] else "MusicgenForConditionalGeneration"
    trained_on = TRAINED_ON | ({"rights": {"licences": rest["licences"]}} if "licences" in rest else {})
    music = MUSIC | {"trained_on": trained_on} | rest.get("music", {})
    adapter = rest.get("adapter", {})
    return model_card.render_card(Recipe(corpus="c"), base, music, COST, rest.get("scores"), adapter=adapter)


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---")[1])


def test_card_tells_memory_in_the_unit_of_all_pages() -> None:
    assert "peak memory 1.07 GB," in card()


def test_render_card_header_has_the_hub_fields() -> None:
    fields = header(card(licences={"CC0-1.0": 2}))
    assert fields["base_model"] == "facebook/musicgen-small"
    assert fields["library_name"] == "peft"
    assert fields["license"] == "cc-by-nc-4.0"
    assert {"talim", "adapter", "music-generation"} <= set(fields["tags"])
    assert "license_name" not in fields


APACHE, NC = "Apache-2.0", "CC-BY-NC-4.0"


@pytest.mark.parametrize(
    ("base", "recordings", "expected"),
    [
        (APACHE, ["CC0-1.0"], "apache-2.0"),
        (APACHE, ["Public Domain"], "apache-2.0"),
        (APACHE, ["CC BY 4.0", "CC0-1.0"], "cc-by-4.0"),
        (APACHE, ["CC BY-SA 4.0", "CC BY 3.0"], "cc-by-sa-4.0"),
        (NC, ["CC0-1.0", "CC BY 4.0"], "cc-by-nc-4.0"),
        (NC, ["CC BY-SA 4.0"], "other"),
        ("MIT", ["Apache-2.0"], "apache-2.0"),
        (APACHE, ["CC BY-NC 4.0"], "other"),
        (APACHE, ["CC BY-NC-ND 4.0", "CC0-1.0"], "other"),
        (APACHE, ["CC-BY-NC-SA-4.0"], "other"),
        (APACHE, ["All rights reserved"], "other"),
        (APACHE, ["unknown"], "other"),
        (APACHE, ["ask the singer"], "other"),
        (NC, ["unknown"], "other"),
        ("unknown", ["CC0-1.0"], "other"),
        ("CreativeML Open RAIL-M", ["CC0-1.0"], "other"),
        (APACHE, [], "other"),
        (APACHE, ["my own recording"], "other"),
        (APACHE, ["https://creativecommons.org/licenses/by/4.0/"], "cc-by-4.0"),
        (APACHE, ["CC BY 4.0 DE"], "other"),
    ],
)
def test_licence_follows_the_most_restrictive_of_base_and_recordings(
    base: str, recordings: list[str], expected: str
) -> None:
    fields = header(card(licence=base, licences=dict.fromkeys(recordings, 1)))
    assert fields["license"] == expected
    names = {"license_name", "license_link"}
    assert names & set(fields) == (names if expected == "other" else set())
    if expected == "other":
        assert re.fullmatch(r"[a-z0-9.-]+", fields["license_name"])
        assert fields["license_link"] == "LICENSE.md"


def test_licence_name_is_of_what_restricts() -> None:
    fields = model_card.licence_fields(APACHE, ["CC BY-NC-ND 4.0", "CC0-1.0", "unknown"])
    assert fields["license_name"] == "cc-by-nc-nd-4.0-and-unknown"
    assert model_card.licence_fields("unknown", ["CC0-1.0"])["license_name"] == "unknown"


def test_render_licence_names_base_and_recordings() -> None:
    text = model_card.render_licence({"name": "facebook/musicgen-small", "licence": NC}, MUSIC)
    assert "`facebook/musicgen-small`: CC-BY-NC-4.0" in text
    assert "CC0-1.0 (2), unknown (1)" in text
    row = {"title": "Dawn", "performer": "Meera", "file": "a.wav", "source": "an archive", "licence": "CC BY 4.0"}
    named = {"trained_on": TRAINED_ON | {"attributions": [row]}}
    listed = model_card.render_licence({"name": "b", "licence": NC}, named)
    assert "- Dawn, by Meera (a.wav); source: an archive; licence: CC BY 4.0\n" in listed
    assert "kept out" not in listed.lower()


@pytest.mark.parametrize(
    ("performer", "licence", "told"),
    [
        ("me", "CC BY 4.0", ['"me" is whoever trained']),
        ("Rafiq | kendim", "benim kaydım", ['"kendim" is whoever trained', '"benim kaydım" is what']),
        ("Meera", "my own recording; CC0-1.0", ['"my own recording" is what']),
        ("Meera", "CC0-1.0", []),
    ],
)
def test_render_licence_says_whom_me_and_mine_mean(performer: str, licence: str, told: list[str]) -> None:
    row = {"title": "Dawn", "performer": performer, "file": "a.wav", "source": "x", "licence": licence}
    music = MUSIC | {"trained_on": TRAINED_ON | {"attributions": [row]}}
    for text in (model_card.render_licence({"name": "b", "licence": NC}, music), card(music=music)):
        assert [words for words in told if words not in text] == []
        assert len(re.findall('" is wh', text)) == len(told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nano-musicgen", "`nano-musicgen` comes with talim; licence of its weights: Apache-2.0."),
        ("facebook/musicgen-small", "is downloaded from the Hugging Face Hub (2."),
        ("me/tuned", "is downloaded from the Hugging Face Hub at first use; licence"),
    ],
)
def test_needs_says_where_the_base_comes_from(name: str, told: str) -> None:
    assert told in model_card.needs({"name": name, "licence": APACHE, "is_local": False})
    assert "ask them for it" in model_card.needs({"name": name, "licence": APACHE, "is_local": True})
    assert "`x` in here;" in model_card.needs({"name": "x", "licence": APACHE, "is_local": True}, "in here")


def test_licences_of_what_was_kept_out_bind_nothing_and_are_told_apart() -> None:
    kept_out = {"recordings": 2, "rights": {"licences": {"CC BY-NC-ND 4.0": 2}, "consent": {"unknown": 2}}}
    music = MUSIC | {"trained_on": TRAINED_ON | {"rights": {"licences": {"CC0-1.0": 3}}}, "kept_out": kept_out}
    text = model_card.render_licence({"name": "b", "licence": APACHE}, music)
    assert "- the recordings that it was trained on: CC0-1.0 (3)\n" in text
    said = "Kept out of training and used only to choose its weights and to measure it: 2 recordings, counted here"
    assert said in text
    described = card(licence=APACHE, music=music)
    assert header(described)["license"] == "apache-2.0"
    assert "- trained on 3 recordings, 1 performer, 12 clips, 2.0 minutes\n- licences: CC0-1.0 (3)\n" in described
    assert said in described
    assert "NC-ND" not in text + described
    untimed = {name: value for name, value in TRAINED_ON.items() if name != "seconds"}
    assert "12 clips, an unknown number of minutes\n" in card(music=MUSIC | {"trained_on": untimed})


@pytest.mark.parametrize("name", ["gpt2", "musicgen-small"])
def test_render_card_of_a_local_base_names_no_model_of_the_hub(name: str) -> None:
    text = card(name, is_local=True)
    assert "base_model" not in header(text)
    assert f"from_pretrained('./{name}', dtype=torch.float32)" in text
    assert f"--base ./{name} " in text


def test_render_card_of_a_hub_base_names_its_commit() -> None:
    text = card("facebook/musicgen-stereo-small", revision="a" * 40)
    assert f"from_pretrained('facebook/musicgen-stereo-small', revision='{'a' * 40}', dtype=torch.float32)" in text
    assert f"--base facebook/musicgen-stereo-small@{'a' * 40} --adapter" in text
    assert f"`facebook/musicgen-stereo-small` at commit `{'a' * 40}`, licence" in text
    assert header(text)["base_model"] == "facebook/musicgen-stereo-small"


def test_render_card_loading_code_of_a_stereo_base_runs(tmp_path: Path) -> None:
    import torch
    from stand_in_hub.checkpoints import write_safetensors

    from talim.adapters import injection, serialization
    from talim.backbones.load import load

    folder = write_safetensors(tmp_path / "tiny-stereo", channels=2)  # in fp16, as the released ones
    base = load(folder, precision="fp32", device="cpu")
    peft = injection.attach(base.model, Design.parse("linear@all:width4"), base.sites())
    adapter = tmp_path / "adapter"
    text = model_card.render_card(Recipe(corpus="c"), model_card.base_facts(base), MUSIC, COST, None)
    serialization.save(peft, adapter, base={"name": base.name, "fingerprint": base.fingerprint, "local": True})
    code = text.split("```python\n")[1].split("```")[0]
    code = code.replace("'./tiny-stereo'", repr(str(folder))).replace("THIS_FOLDER", str(adapter))
    names: dict[str, Any] = {}
    exec(code, names)
    model = names["model"]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    tokens = torch.zeros(8, 3, dtype=torch.long)
    logits = model(input_ids=torch.ones(1, 2, dtype=torch.long), decoder_input_ids=tokens).logits
    assert bool(logits.isfinite().all())


def test_render_card_states_non_commercial_and_unknown_rights() -> None:
    text = card()
    assert "Non-commercial: neither this adapter nor its output" in text
    assert "CC0-1.0 (2), unknown (1)" in text
    assert "the corpus does not state it" in text
    assert "Non-commercial" not in card(licence="Apache-2.0")


def test_render_card_of_miniature_base_says_so() -> None:
    assert "miniature model" in card("nano-musicgen", "Apache-2.0", miniature=True)
    assert "miniature" not in card()


def test_render_card_measures_have_an_interval_or_a_reason() -> None:
    assert "Not evaluated yet" in card()
    reduction = {"mean": 0.25, "ci95": [0.1, 0.4], "per_recording": {"a": 0.1, "b": 0.4}}
    scores = {
        "held_out_loss": {"base_loss": {"mean": 4.0}, "adapted_loss": {"mean": 3.75}, "loss_reduction": reduction},
        "split": {"strategy": "performer", "explanation": "no voice is on both sides"},
        "adapter_effect": {"token_change_rate": 0.5, "log_mel_distance_db": 4.2},
    }
    assert "0.2500 nats, 2 recordings: 0.1000 and 0.4000, 95 % interval 0.1000 to 0.4000" in card(scores=scores)
    scores["held_out_loss"] |= {"base_loss": {"mean": 1.11644}, "adapted_loss": {"mean": 0.94956}}
    assert "| 1.11644 | 0.94956 |" in card(scores=scores)  # with four decimals 1.1164, 0.9496 and 0.1669
    assert "Loss reduction: 0.16688 nats" in card(scores=scores)
    reduction |= {"ci95": [-0.1, 0.4]}
    assert "(may be chance): 0.16688 nats, 2 recordings: 0.1000 and 0.4000, too few for an interval" in card(
        scores=scores
    )
    reduction["per_recording"] |= {"c": 0.2, "d": 0.3}
    assert "(may be chance): 0.16688 nats, 95 % interval -0.1000 to 0.4000 over 4 recordings" in card(scores=scores)
    assert "Copies: " not in card(scores=scores)
    assert "\nCopies: None of 6 checked clips.\n" in card(
        scores=scores | {"copies": {"sentence": "None of 6 checked clips."}}
    )
    reduction |= {"ci95": None}
    assert "no interval (over 4 recordings)" in card(scores=scores)


def test_render_card_loading_code_compiles(finished_run: Any) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    for name in ("tiny", "nano-musicgen"):
        code = card(name, miniature=name == "nano-musicgen").split("```python\n")[1].split("```")[0]
        compile(code, name, "exec")
    assert "import talim.adapters" in text


def test_render_card_loading_code_works_with_plain_peft(finished_run: Any, tiny_base: Any) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    code = code.replace("'./tiny'", repr(str(tiny_base))).replace("THIS_FOLDER", str(finished_run.adapter))
    names: dict[str, Any] = {}
    exec(code, names)
    trained = [n for n, p in names["model"].named_parameters() if "talim_" in n and p.abs().max() > 0]
    assert trained


def test_licence_name_of_a_declaration_in_another_language_is_that_of_the_english_one() -> None:
    for declared in ("自分の録音", "my own recording"):
        fields = model_card.licence_fields("Apache-2.0", [declared])
        assert (fields["license"], fields["license_name"]) == ("other", "my-own-recording")


def test_render_card_of_an_adapter_without_words_asks_for_it_without_words() -> None:
    told = {"trained_on": TRAINED_ON | {"captions": ["slow\nglide", "low voice"]}}
    (heard,) = re.findall("talim generate .*", card(music=told))
    assert shlex.split(heard)[-3] == "--prompt=slow glide"
    assert "to use in prompts:\n\n- slow glide\n- low voice\n" in card(music=told)
    (plain,) = re.findall("talim generate .*", card())
    (wordless,) = re.findall("talim generate .*", card(adapter={"captioned": False}))
    assert shlex.split(plain)[-3:] == ["--prompt=your text", "--out", "music.flac"]
    assert shlex.split(wordless) == [*shlex.split(plain)[:-3], "--prompt=", "--out", "music.flac"]


@pytest.mark.parametrize(
    ("adapter", "words"), [({}, "-it's $(id)"), ({"captioned": None}, "-it's $(id)"), ({"captioned": False}, "")]
)
def test_prompt_option_is_one_word_of_a_shell(adapter: dict[str, Any], words: str) -> None:
    assert shlex.split(model_card.prompt_option(adapter, "-it's $(id)")) == [f"--prompt={words}"]


def test_prompt_option_decides_the_prompt_of_every_command_that_is_printed() -> None:
    source = Path(model_card.__file__).parents[1]
    files = [path for pattern in ("*.py", "*.html", "*.json", "*.js") for path in source.rglob(pattern)]
    told = {path.name for path in files if re.search("talim generate .*--prompt[ =]", path.read_text("utf-8"))}
    assert told == {"generate.py"}  # the examples of its --help
