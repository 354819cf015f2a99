"""The model card: a header the Hub reads, honest words where rights or measures are missing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from talim.recipe import Recipe
from talim.training import model_card

COST: dict[str, Any] = {
    "trainable_parameters": 1000,
    "total_parameters": 40000,
    "steps": 9,
    "best_step": 6,
    "best_held_out_loss": 3.21,
    "wall_seconds": 120.0,
    "device": "CPU, 2 cores",
    "precision": "fp32",
    "peak_memory_bytes": 2**30,
    "flops": 3e12,
    "energy_joules": None,
    "energy_note": "not known",
}
SUMMARY: dict[str, Any] = {
    "recordings": 3,
    "performers": 1,
    "clips": 12,
    "seconds": 120.0,
    "rights": {"licences": {"CC0-1.0": 2, "unknown": 1}, "consent": {"given": 3}},
}


def written(name: str = "facebook/musicgen-small", licence: str = "CC-BY-NC-4.0", **rest: Any) -> str:
    base = {"name": name, "licence": licence, "miniature": rest.get("miniature", False)}
    base["transformers_class"] = "" if base["miniature"] else "MusicgenForConditionalGeneration"
    return model_card.render_card(Recipe(corpus="c"), base, SUMMARY, COST, rest.get("scores"))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("CC-BY-NC-4.0", "cc-by-nc-4.0"), ("Apache-2.0", "apache-2.0"), ("unknown", "other")],
)
def test_the_header_has_what_the_hub_reads(licence: str, expected: str) -> None:
    header = yaml.safe_load(written(licence=licence).split("---")[1])
    assert header["base_model"] == "facebook/musicgen-small"
    assert header["library_name"] == "peft"
    assert header["license"] == expected
    assert {"talim", "adapter", "music-generation"} <= set(header["tags"])
    assert (header.get("license_name") == "unknown") == (expected == "other")


def test_non_commercial_and_unknown_rights_are_said() -> None:
    text = written()
    assert "Non-commercial: neither this adapter nor what it makes" in text
    assert "CC0-1.0 (2), unknown (1)" in text
    assert "nobody has stated it" in text
    assert "Non-commercial" not in written(licence="Apache-2.0")


def test_a_miniature_base_is_named_as_one() -> None:
    assert "miniature model" in written("nano-musicgen", "Apache-2.0", miniature=True)
    assert "miniature" not in written()


def test_measures_stand_with_their_interval_or_the_reason_for_none() -> None:
    assert "Not evaluated yet" in written()
    fall = {"mean": 0.25, "interval": [0.1, 0.4], "per_recording": {"a": 0.1, "b": 0.4}}
    scores = {
        "held_out_loss": {"before": {"mean": 4.0}, "after": {"mean": 3.75}, "fall": fall},
        "split": {"step": "performer", "explanation": "no voice is on both sides"},
        "adapter_effect": {"same_seed_token_change": 0.5, "log_mel_distance_db": 4.2},
    }
    assert "0.2500 nats, 95 % interval 0.1000 to 0.4000 over 2 recordings" in written(scores=scores)
    fall |= {"interval": None, "interval_note": "one recording only"}
    assert "no interval (one recording only)" in written(scores=scores)


def test_the_loading_code_in_the_card_is_python(finished_run: Any) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    for name in ("tiny", "nano-musicgen"):
        code = written(name, miniature=name == "nano-musicgen").split("```python\n")[1].split("```")[0]
        compile(code, name, "exec")
    assert "import talim.adapters" in text


def test_the_loading_code_in_the_card_works_with_plain_peft(finished_run: Any, tiny_base: Any) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    code = code.replace("'tiny'", repr(str(tiny_base))).replace("THIS_FOLDER", str(finished_run.adapter))
    names: dict[str, Any] = {}
    exec(code, names)
    found = [n for n, p in names["model"].named_parameters() if "talim_" in n and p.abs().max() > 0]
    assert found
