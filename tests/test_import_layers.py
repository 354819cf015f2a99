"""Imports: layers of docs/architecture.md, no cycles, nothing imports `research`, light modules load no torch."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "talim"

# Layers L0 to L12 of docs/architecture.md: a package imports lower layers only, never one beside it.
LAYERS = (
    {"errors", "version", "terminal_text", "own_recordings", "path_suggestions", "recordings_needed"},
    {"out_of_memory", "atomic_io", "compiled_modules"},
    {""},
    {"inside_folder", "strict_yaml", "progress", "interrupts", "licences", "beats_chords", "audio", "html"},
    {"design", "traditions", "time_log"},
    {"recipe"},
    {"run"},
    {"synthesis", "backbones", "adapters", "metrics"},
    {"corpus"},
    {"training"},
    {"generation", "planning"},
    {"evaluation", "exporting"},
    {"experiments"},
    {"reporting"},
    {"poc", "listening"},
    {"app", "briefs", "serving"},
    {"api"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
TORCHLESS = (
    "talim",
    "talim.api",
    "talim.cli",
    "talim.corpus.prepare",
    "talim.corpus.report",
    "talim.reporting.run_report",
    "talim.reporting.study_report",
    "talim.listening.app",
    "talim.listening.ratings_report",
    "talim.listening.server",
    "talim.serving.app",
    "talim.app.application",
    "talim.app.launch",
    "talim.serving.generation_queue",
    "talim.briefs.review_app",
    "talim.briefs.candidates",
    "talim.briefs.report",
    "talim.html.render",
    "talim.html.audio_player",
    "talim.html.plots",
    "talim.html.spectrogram",
    "talim.synthesis.performer",
    "talim.poc.report_section",
)


def module_name(path: Path, source: Path = SOURCE) -> str:
    """talim.html.plots for .../talim/html/plots.py; a package has its own name."""
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """The package or top-level module: html for talim.html.plots, '' for talim itself."""
    return [*module.split("."), ""][1]


def nodes_below(node: ast.AST, type_checking: bool) -> list[ast.AST]:
    """All nodes below, function-level imports included; `if TYPE_CHECKING:` blocks only where asked for."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if type_checking or not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            nodes += [child, *nodes_below(child, type_checking)]
    return nodes


def imported_modules(path: Path, known: set[str], source: Path = SOURCE, type_checking: bool = False) -> set[str]:
    """The modules that a file imports, at any depth; `from talim import x` counts as talim.x."""
    here = module_name(path, source)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    names: set[str] = set()
    for node in nodes_below(ast.parse(path.read_text(encoding="utf-8")), type_checking):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            anchor = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*anchor, *([node.module] if node.module else [])])
            names |= {f"{stem}.{a.name}" if f"{stem}.{a.name}" in known else stem for a in node.names}
    return {name for name in names if name.split(".")[0] in {"talim", "research"}} - {here}


@functools.cache
def import_graph(source: Path = SOURCE, type_checking: bool = False) -> dict[str, set[str]]:
    """Every module of the package, and what it imports of the project."""
    files = sorted(source.rglob("*.py"))
    known = {module_name(path, source) for path in files}
    return {module_name(path, source): imported_modules(path, known, source, type_checking) for path in files}


def layer_violations(graph: dict[str, set[str]]) -> list[str]:
    """Imports that point up or sideways, or to `research`."""
    violations = []
    for module, targets in sorted(graph.items()):
        for target in sorted(targets):
            here, there = package_of(module), package_of(target)
            if target.split(".")[0] == "research":
                violations.append(f"{module} -> {target}: research is not part of the package")
            elif here not in LAYER_OF or there not in LAYER_OF:
                violations.append(f"{module} -> {target}: a package that is not in LAYERS")
            elif here != there and LAYER_OF[there] >= LAYER_OF[here]:
                violations.append(f"{module} -> {target}: {there} is not below {here}")
    return violations


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle among the modules, or an empty list."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if closed := walk(target, [*path, module]):
                return closed
        done.add(module)
        return []

    return next((closed for module in sorted(graph) if (closed := walk(module, []))), [])


# half of the files that a reader had to open before the redesign; both columns count
MOST_FILES = {"talim prepare": 20, "talim train": 17, "talim evaluate": 22, "talim report": 7}


def walks() -> dict[str, tuple[list[str], list[str]]]:
    """By command the modules that docs/architecture.md lists: stage by stage, and what is opened on the way."""
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = text.partition("<!-- walk: begin -->")[2].partition("<!-- walk: end -->")[0]
    found = {}
    for line in walk.splitlines():
        if line.startswith("| `talim "):
            command, *columns = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|"))
            stages, opened = ([f"talim.{name.replace('/', '.')}" for name in column] for column in columns)
            found[command[0]] = (stages, opened)
    return found


@pytest.mark.parametrize("command", MOST_FILES)
def test_walk_of_a_recording_is_as_the_imports_are(command: str) -> None:
    """Each file is opened from one before it, so that no list can name what is not there or jump."""
    graph, (stages, opened) = import_graph(), walks()[command]
    assert len({*stages, *opened}) == len([*stages, *opened])
    for number, module in enumerate(stages[1:], start=1):
        assert any(module in graph[earlier] for earlier in stages[:number]), module
    for module in opened:
        assert any(module in graph[other] for other in [*stages, *opened]), module
    assert len([*stages, *opened]) <= MOST_FILES[command]


def test_walk_of_prepare_leaves_no_stage_out() -> None:
    stages, opened = walks()["talim prepare"]
    called = {module for module in import_graph()["talim.corpus.prepare"] if package_of(module) == "corpus"}
    assert called - {*stages, *opened} == set()


def test_imports_point_down() -> None:
    assert layer_violations(import_graph()) == []


def test_type_checking_imports_point_down() -> None:
    graph = {**import_graph(type_checking=True)}
    del graph["talim"]  # the lazy public API names what it exports for type checkers
    assert layer_violations(graph) == []


def test_imports_have_no_cycle() -> None:
    graph = {**import_graph(type_checking=True)}
    graph["talim"] = import_graph()["talim"]
    assert cycle(graph) == []


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
        ("training/train.py", "from research.pretraining import codec"),
    ],
)
def test_layer_violations_wrong_import_is_found(tmp_path: Path, name: str, text: str) -> None:
    modules = ("recipe", "audio", "metrics", "corpus")
    files = {f"{module}.py": "" for module in modules} | {"reporting/run_report.py": ""}
    source = write_package(tmp_path, {"__init__.py": "", **files, name: text})
    assert len(layer_violations(import_graph(source))) == 1


def test_layer_violations_type_checking_import_counts_only_where_asked(tmp_path: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import talim.cli\nfrom talim import errors\n"
    source = write_package(tmp_path, {"__init__.py": "", "errors.py": "", "cli.py": "", "run.py": text})
    graph = import_graph(source)
    assert layer_violations(graph) == []
    assert graph["talim.run"] == {"talim.errors"}
    assert len(layer_violations(import_graph(source, type_checking=True))) == 1


def test_cycle_is_found(tmp_path: Path) -> None:
    files = {"__init__.py": "", "html/a.py": "import talim.html.b", "html/b.py": "from talim.html import a"}
    closed = cycle(import_graph(write_package(tmp_path, files)))
    assert closed == ["talim.html.a", "talim.html.b", "talim.html.a"]


def test_light_modules_load_no_torch() -> None:
    """One process imports the modules one after the other and reports the first that loads torch."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {list(TORCHLESS)!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        print(json.dumps(name)); break\n"
        "else:\n"
        "    print('null')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is None
