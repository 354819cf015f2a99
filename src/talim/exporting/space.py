"""Export of a run as a Hugging Face Space: a page on gradio that makes music with the graphs of base and adapter."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from talim.exporting import contents, hub, onnx_model, rights
from talim.exporting.contents import ExportedRun, Files
from talim.exporting.options import ExportOptions
from talim.exporting.public_facts import PROMPT
from talim.progress import Progress
from talim.terminal_text import one_line

GRADIO = "6.31.0"  # that app.py is written for
PYTHON = "3.11"
PINNED = ("onnxruntime", "numpy", "tokenizers")
MOST_TITLE = 80  # characters that the Hub shows; of a description 60


def export_space(exported: ExportedRun, options: ExportOptions, progress: Progress) -> dict[str, Any]:
    """Write the Space into the new folder `out`, or push it to the Space OWNER/NAME, private unless `public`.

    TalimError where the base or the adapter has no graphs, or, for a push, where rights do not allow publishing.
    """
    if options.repo is not None:
        rights.refuse_unless_allowed(exported, options.permission)
    else:
        assert options.out is not None
        contents.check_free(options.out)
    with TemporaryDirectory(dir=None if options.out is None else options.out.absolute().parent) as graphs:
        files, left_out = space_files(exported, Path(graphs), options.permission, progress)
        if options.repo is not None:
            files[contents.CHECKSUMS] = contents.checksums(files)
            return {"to": "space", **hub.send(exported, options, files, left_out, progress, kind="space")}
        assert options.out is not None
        for line in left_out:
            progress.log(f"left out: {line}")
        contents.write_folder(options.out, files)
    names = [*sorted(files), contents.CHECKSUMS]
    return {"to": "space", "out": str(options.out), "files": names, "left_out": left_out}


def space_files(
    exported: ExportedRun, folder: Path, permission: str | None, progress: Progress
) -> tuple[Files, list[str]]:
    """The Space's files by name, of which the graphs are written into `folder`; and what is left out."""
    files, rows, left_out = contents.shared_files(exported)
    adapter, others = contents.adapter_files(exported)
    onnx_model.graph_writer(exported, progress)(folder)
    files |= {path.name: path for path in folder.iterdir()}
    files |= {f"adapter/{name}": content for name, content in adapter.items()}
    files[onnx_model.SCRIPT] = onnx_model.SCRIPT_FILE
    files["app.py"] = Path(__file__).with_name("space_app.py")
    files["requirements.txt"] = _requirements()
    header, kept = contents.card_sections(exported)
    title = f"{exported.recipe.design} for {exported.info['base']['name']}"
    about = (
        "Music made here is AI-generated, and the files say so. It is no recording of any performer. Licence: "
        f"{header.get('license_name') or header.get('license', 'unknown')}; recordings and conditions: LICENSE.md."
    )
    settings = json.loads((folder / onnx_model.SETTINGS).read_text(encoding="utf-8"))
    settings |= {"title": title, "about": about, "prompt": _first_prompt(rows)}
    files[onnx_model.SETTINGS] = contents.as_json(settings, folder)
    added = contents.example_links(rows) + contents.permission_section(permission)
    files["README.md"] = _card(title, header, about, added, kept).encode()
    return files, [*left_out, *others]


def _first_prompt(rows: list[dict[str, Any]]) -> str:
    """A prompt to begin with: that of the first audio example that is told."""
    shown = (row["prompt"] for row in rows if row.get("prompt") not in (None, "", PROMPT))
    return next((one_line(str(prompt), 200) for prompt in shown), onnx_model.PROBE)


def _requirements() -> bytes:
    """What the page needs, in the versions with which the graphs were checked."""
    lines = [f"gradio=={GRADIO}", *(f"{name}=={metadata.version(name)}" for name in PINNED)]
    return ("\n".join(lines) + "\n").encode()


def _card(title: str, header: dict[str, Any], about: str, added: str, kept: str) -> str:
    base = header.get("base_model")
    front: dict[str, Any] = {
        **{"title": title[:MOST_TITLE], "emoji": "🎵", "colorFrom": "indigo", "colorTo": "gray"},
        **{"sdk": "gradio", "sdk_version": GRADIO, "python_version": PYTHON, "app_file": "app.py", "pinned": False},
        "short_description": "Music by a model that an adapter taught",
        **{name: header[name] for name in ("license", "license_name", "license_link", "tags") if name in header},
        **({"models": [base]} if base else {}),
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{text}---\n# {title}\n\n{about}\n\nThe page runs on the CPU, without talim and torch: `app.py` on "
        "gradio, `generate.py`, and the base with the adapter as graphs for onnxruntime. Here: `pip install -r "
        "requirements.txt && python app.py`. The adapter alone, for talim, is in `adapter/`.\n\n"
        f"{added}{kept}"
    )
