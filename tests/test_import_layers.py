"""The import arrows: lower rooms never import higher ones, siblings are blind, nothing light loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "talim"

# Layers of docs/architecture.md: a package imports lower layers only, never one beside it.
LAYERS = (
    {"", "errors", "version"},
    {
        "atomic_io",
        "strict_yaml",
        "progress",
        "interrupts",
        "licences",
        "beats_chords",
        "audio",
        "html",
    },
    {"designs", "traditions"},
    {"recipe", "synthesis", "backbones", "adapters", "metrics"},
    {"run"},
    {"corpus"},
    {"training"},
    {"generation", "planning"},
    {"evaluation"},
    {"experiments"},
    {"reporting"},
    {"poc", "listening"},
    {"briefs"},
    {"api"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
TORCHLESS = (
    "talim",
    "talim.cli",
    "talim.corpus.prepare",
    "talim.corpus.report",
    "talim.corpus.prepare_source",
    "research.validation.simulated_studies",
    "talim.reporting.run_report",
    "talim.reporting.study_report",
    "talim.listening.app",
    "talim.briefs.review_app",
    "talim.briefs.candidates",
    "talim.briefs.report",
    "talim.listening.ratings_report",
    "talim.listening.server",
    "talim.html.render",
    "talim.html.audio_player",
    "talim.html.plots",
    "talim.html.spectrogram",
    "talim.synthesis.performer",
    "research.validation.synthesis_realism",
)


def module_name(path: Path, source: Path = SOURCE) -> str:
    """talim.html.plots for .../talim/html/plots.py; a package carries its own name."""
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room a module lies in: pages for talim.html.plots, '' for talim itself."""
    return [*module.split("."), ""][1]


def for_type_checking(node: ast.AST) -> bool:
    """True for `if TYPE_CHECKING:`, whose imports never run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def running_nodes(node: ast.AST) -> list[ast.AST]:
    """All nodes below, lazy imports included, without what only a type checker sees."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if not for_type_checking(child):
            found += [child, *running_nodes(child)]
    return found


def imported_modules(path: Path, known: set[str], source: Path = SOURCE) -> set[str]:
    """The talim modules that a file imports, lazily or not; `from talim import x` counts as talim.x."""
    here = module_name(path, source)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    names: set[str] = set()
    for node in running_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            anchor = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*anchor, *([node.module] if node.module else [])])
            names |= {f"{stem}.{a.name}" if f"{stem}.{a.name}" in known else stem for a in node.names}
    return {name for name in names if name.split(".")[0] == "talim"} - {here}


def import_graph(source: Path = SOURCE) -> dict[str, set[str]]:
    """Every module of the package, and what it imports of the package."""
    files = sorted(source.rglob("*.py"))
    known = {module_name(path, source) for path in files}
    return {module_name(path, source): imported_modules(path, known, source) for path in files}


def arrow_faults(graph: dict[str, set[str]]) -> list[str]:
    """Imports that point up or sideways, in words."""
    faults = []
    for module, targets in sorted(graph.items()):
        for target in sorted(targets):
            here, there = room_of(module), room_of(target)
            if here not in LAYER_OF or there not in LAYER_OF:
                faults.append(f"{module} -> {target}: a room that is not in LAYERS")
            elif here != there and LAYER_OF[there] >= LAYER_OF[here]:
                faults.append(f"{module} -> {target}: {there} is not below {here}")
    return faults


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle among the modules, or an empty list."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if found := walk(target, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


def test_arrows_point_down() -> None:
    assert arrow_faults(import_graph()) == []


def test_no_cycles() -> None:
    assert cycle(import_graph()) == []


def write_package(folder: Path, files: dict[str, str]) -> Path:
    source = folder / "talim"
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("errors.py", "from talim.recipe import Recipe"),
        ("metrics/pitch.py", "def lazy():\n    from talim import corpus"),
        ("training/train.py", "import talim.reporting.run_report"),
        ("html/render.py", "from ..audio import read"),
        ("cellar/rats.py", "import talim.errors"),
    ],
)
def test_a_wrong_arrow_is_seen(tmp_path: Path, name: str, text: str) -> None:
    shell = {f"{room}.py": "" for room in ("recipe", "audio", "metrics")} | {"reporting/run_report.py": ""}
    source = write_package(tmp_path, {"__init__.py": "", **shell, name: text})
    assert len(arrow_faults(import_graph(source))) == 1


def test_a_right_arrow_and_a_type_only_import_pass(tmp_path: Path) -> None:
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import talim.cli\nfrom talim import errors\n"
    )
    source = write_package(tmp_path, {"__init__.py": "", "errors.py": "", "cli.py": "", "run.py": text})
    graph = import_graph(source)
    assert arrow_faults(graph) == []
    assert graph["talim.run"] == {"talim.errors"}


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "html/a.py": "import talim.html.b",
        "html/b.py": "from talim.html import a",
    }
    assert cycle(import_graph(write_package(tmp_path, files))) == [
        "talim.html.a",
        "talim.html.b",
        "talim.html.a",
    ]


@pytest.mark.parametrize("module", TORCHLESS)
def test_light_modules_load_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
