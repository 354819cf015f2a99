"""Rules of the repository that a machine can check: tree, names, texts, documentation, packaging."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from talim import recipe

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "talim"
RESEARCH = ROOT / "research"
SOURCES = sorted(PACKAGE.rglob("*.py"))
RESEARCH_SOURCES = sorted(RESEARCH.rglob("*.py"))
CODE = [
    *SOURCES,
    *RESEARCH_SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]
TEXT_ENDINGS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cff", ".html", ".css", ".js", ".json", ".jsonl", ""}
# Put together here, so that this file does not contain what it forbids.
REGISTRY_HOSTS = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "hugging" + "face.co", "pytorch" + ".org"]
MACHINE_PATHS = re.compile(r"(?<![\w.:/<~-])/(?:home|Users|root|work|mnt|opt|private)/\w")
# Test files of the whole project; every other test file mirrors a module or a package.
PROJECT_TESTS = {"test_repository.py", "test_import_layers.py", "test_tutorials.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Files that git knows, or every file outside of the environment where there is no git."""
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    names = done.stdout.split("\0") if done.returncode == 0 else [relative(path) for path in CODE]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# The tree


def test_file_names_are_specific() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc", "other"}
    assert [relative(path) for path in CODE if path.stem in vague or path.parent.name in vague] == []


def mirrored_module(test: Path) -> Path | None:
    """The module or package that a test file mirrors: tests/a/test_b.py is of talim/a/b.py, with or without a
    suffix (test_b_subject.py); test_package*.py is of the package a. None where there is no such module.
    """
    inside = test.relative_to(ROOT / "tests")
    roots = {"research": ROOT, "benchmarks": ROOT, "fuzz": ROOT / "tests"}  # generators lie beside their tests
    folder = roots.get(inside.parts[0], PACKAGE) / inside.parent
    words = test.stem.removeprefix("test_").split("_")
    if words[0] == "package":
        return folder if folder.is_dir() else None
    names = ["_".join(words[:n]) for n in range(len(words), 0, -1)]
    candidates = [folder / f"{name}.py" for name in names]
    return next((path for path in candidates if path.is_file()), None)


def test_every_test_file_mirrors_a_module() -> None:
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name not in PROJECT_TESTS]
    assert len(tests) > 200
    assert [relative(path) for path in tests if mirrored_module(path) is None] == []


def test_mirrored_module_of_a_stray_test_is_none() -> None:
    assert mirrored_module(ROOT / "tests" / "corpus" / "test_no_such_module.py") is None
    assert mirrored_module(ROOT / "tests" / "corpus" / "test_split.py") == PACKAGE / "corpus" / "split.py"


def test_files_over_a_megabyte_are_only_the_weights() -> None:
    large = [path for path in tracked() if path.stat().st_size > 1_000_000 and "/nano/weights/" not in path.as_posix()]
    assert [relative(path) for path in large] == []


# Names


def classes(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_public_class_names_are_defined_once() -> None:
    count = Counter(name for path in SOURCES for name in classes(path))
    assert [name for name, times in count.items() if times > 1] == []


def banned_words() -> set[str]:
    """The words of the glossary's section on identifiers."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    section = text.split("## Words that are not used as identifiers")[1].split("These are not used")[0]
    return {word for word in re.findall(r"`([a-z]+)`", section) if word not in {"src", "research"}}


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file defines or uses, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name):
            yield node.id, line
        elif isinstance(node, ast.Attribute):
            yield node.attr, line
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield node.arg, line
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, line


def parts_of(identifier: str) -> list[str]:
    """snake_case and CamelCase identifiers as lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def test_parts_of_splits_both_cases() -> None:
    assert parts_of("told_PocOptions2") == ["told", "poc", "options"]


def test_identifiers_avoid_the_words_that_the_glossary_bans() -> None:
    banned = banned_words()
    assert {"told", "heard", "wishes", "strangers"} <= banned
    faults = []
    for path in (*SOURCES, *RESEARCH_SOURCES):
        for name, line in identifiers(ast.parse(path.read_text(encoding="utf-8"))):
            if banned & {*parts_of(name)}:
                faults.append(f"{relative(path)}:{line} {name}")
    assert sorted(set(faults)) == []


# Texts


def test_docstrings_are_there_where_they_help() -> None:
    """Every module says what it is; so does every public class, and every public function of some length."""
    faults = []
    for path in (*SOURCES, *RESEARCH_SOURCES):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree) and (path.name != "__init__.py" or tree.body):
            faults.append(f"{relative(path)}: no module docstring")
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            long = isinstance(node, ast.ClassDef) or (node.end_lineno or 0) - node.lineno > 5
            if long and not ast.get_docstring(node):
                faults.append(f"{relative(path)}: {node.name}")
    assert faults == []


def test_librosa_is_imported_by_one_function() -> None:
    """Its first import compiles functions, and processes that do so at the same time crash: see load_librosa."""
    allowed = {PACKAGE / "audio" / "load_librosa.py", Path(__file__)}
    direct = re.compile(r"^\s*(import|from) librosa", re.MULTILINE)
    importing = [relative(path) for path in CODE if path not in allowed and direct.search(path.read_text("utf-8"))]
    assert importing == []


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    faults = []
    for path in tracked():
        if path.suffix not in TEXT_ENDINGS or path.stat().st_size > 1_000_000:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        faults += [f"{relative(path)}: {host}" for host in REGISTRY_HOSTS if host in text]
        faults += [f"{relative(path)}: {hit.group()}" for hit in MACHINE_PATHS.finditer(text)]
    assert faults == []


def test_machine_paths_pattern_matches_a_path_and_no_prose() -> None:
    assert MACHINE_PATHS.search("see /ho" + "me/me/music")
    assert not MACHINE_PATHS.search("fed by the /home page and and/or work")


# Documentation

PAGES = [ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_page_that_names_macos_or_wsl_says_that_only_linux_is_tested() -> None:
    named = [page for page in PAGES if re.search(r"macOS|WSL", page.read_text("utf-8"))]
    assert {page.name for page in named} >= {"README.md", "README.ja.md"}
    said = re.compile(r"Only Linux is tested|試験は Linux だけ")
    assert [relative(page) for page in named if not said.search(page.read_text("utf-8"))] == []


def documented_commands() -> list[str]:
    """Every `talim ...` line in the shell blocks of README and docs, continuation lines joined."""
    lines = []
    for page in PAGES:
        for block in re.findall(
            r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            joined = block.replace("\\\n", " ")
            lines += [line.strip() for line in joined.splitlines() if line.strip().startswith("talim ")]
    return list(dict.fromkeys(lines))


def check_command(line: str) -> None:
    """Parse a command with the real command line, without running it; AssertionError where it is wrong."""
    from talim.cli import app
    from talim.cli.default_command import DefaultCommandGroup

    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line, comments=True)[1:]
    context: Any = None
    while hasattr(command, "commands"):
        assert arguments, f"{line}: no command"
        if isinstance(command, DefaultCommandGroup) and arguments[0] not in command.commands:
            arguments = [next(iter(command.commands)), *arguments]
        assert arguments[0] in command.commands, f"{line}: talim has no command {arguments[0]!r}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    try:
        context = command.make_context("talim", arguments)
    except Exception as error:  # typer brings its own copy of click's exceptions
        raise AssertionError(f"{line}: {error}") from error
    assert context is not None


def test_documented_commands_can_be_parsed() -> None:
    commands = documented_commands()
    assert len(commands) > 30
    faults = []
    for line in commands:
        try:
            check_command(line)
        except AssertionError as error:
            faults.append(str(error))
    assert faults == []


def test_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert any(line.startswith("talim poc ") for line in documented_commands())


@pytest.mark.parametrize("line", ["talim train --out run --no-such-option", "talim nonsense", "talim report"])
def test_check_command_wrong_command_raises(line: str) -> None:
    with pytest.raises(AssertionError, match="talim "):
        check_command(line)


def undefined_names(code: str) -> list[str]:
    """Names of talim that a Python example uses and that do not exist; SyntaxError where it is no Python."""
    faults = []
    for node in ast.walk(ast.parse(code)):
        used: list[str] = []
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "talim":
            used = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("talim."):
            used = [ast.unparse(node)]
        for path in used:
            module, _, name = path.rpartition(".")
            file = PACKAGE.parent.joinpath(*module.split("."))
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            is_module = (file.parent / name).is_dir() or (file.parent / f"{name}.py").is_file()
            if not is_module and not (file.is_file() and re.search(rf"\b{name}\b", file.read_text("utf-8"))):
                faults.append(path)
    return faults


def test_python_of_the_documentation_is_valid_and_uses_what_there_is() -> None:
    assert undefined_names("import talim\ntalim.train(talim.no_such)") == ["talim.no_such"]
    assert undefined_names("from talim.run import Run, Walk") == ["talim.run.Walk"]
    blocks = [
        (relative(page), block)
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    ]
    assert len(blocks) > 10
    assert [(page, name) for page, block in blocks for name in undefined_names(block)] == []
    for page, block in blocks:  # an adapter goes into the base that it was trained in
        trained = re.search(r"Recipe\([^)]*base=(\S+?),", block)
        loaded = re.search(r"load_base\((\S+?)\)", block)
        assert not (trained and loaded) or trained[1] == loaded[1], page


def test_links_and_pictures_exist() -> None:
    faults = []
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "LOG.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                faults.append(f"{relative(page)}: {target}")
    assert faults == []


def test_modules_and_scripts_named_in_the_documentation_exist() -> None:
    faults = []
    for page in [*PAGES, *SOURCES, *RESEARCH_SOURCES, ROOT / "LOG.md"]:
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python -m ((?:talim|research|benchmarks)(?:\.\w+)*)", text):
            folder = PACKAGE.parent if module.startswith("talim") else ROOT
            path = folder.joinpath(*module.split("."))
            if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
                faults.append(f"{relative(page)}: python -m {module}")
        for name in re.findall(r"(?<![\w/.])(?:docs|research|studies|benchmarks)/[\w./-]+\.(?:md|py|yaml)\b", text):
            if not (ROOT / name).is_file():
                faults.append(f"{relative(page)}: {name}")
    assert sorted(set(faults)) == []


def test_make_targets_of_the_readme_exist() -> None:
    words = set(re.findall(r"`?make ([a-z-]+)\b", (ROOT / "README.md").read_text("utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"setup", "demo", "test", "test-slow", "check", "docs", "bench"} <= targets
    assert words & targets >= {"demo", "test", "check"}


# Shipped files


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("recipes/*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads(path: Path) -> None:
    loaded = recipe.load([path], {"corpus": "my-corpus"})
    for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if not isinstance(value, dict):
            assert str(getattr(loaded, key)) == str(value)


def test_there_are_recipes() -> None:
    assert (PACKAGE / "recipes" / "base.yaml").is_file()


def test_every_dependency_is_pinned() -> None:
    pins = re.findall(r"^([a-z0-9._-]+)==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in required}
    assert sorted(names - set(pins)) == []
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text("utf-8").splitlines()


# what a library is called where it is declared, where that is not the name by which it is imported
DECLARED_AS = {"yaml": "pyyaml", "PIL": "pillow", "pynvml": "nvidia-ml-py", "huggingface_hub": "huggingface-hub",
               "c2pa": "c2pa-python"}  # fmt: skip
# libraries that come with a declared one, and those that are used only where a user has them
COMES_WITH = {
    **{"markupsafe": "jinja2", "pydantic_core": "pydantic", "starlette": "fastapi"},
    "tokenizers": "transformers",
}
USED_IF_THERE = {"IPython", "panns_inference", "openvino", "gradio", "generate"}  # last two: in a Space, beside app.py


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    declared = {re.split(r"[\[<>=~! ]", line)[0] for line in [*project["dependencies"], *extras]}
    imported: dict[str, Path] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.partition(".")[0]: path for name in names}
    others = {*imported} - {*sys.stdlib_module_names, "talim"} - USED_IF_THERE
    missing = {
        name: relative(imported[name])
        for name in others
        if COMES_WITH.get(name, DECLARED_AS.get(name, name)) not in declared
    }
    assert missing == {}
    assert {"torch", "librosa", "sentencepiece"} - declared == set()


def test_version_is_the_same_everywhere() -> None:
    from talim.version import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == __version__ == citation["version"]


@pytest.mark.slow
def test_wheel_holds_the_package_and_no_research(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel"]
    options = ["--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("talim/")}
    files = {path.relative_to(ROOT / "src").as_posix() for path in tracked() if PACKAGE in path.parents}
    assert {"talim/py.typed", "talim/recipes/base.yaml", "talim/words/ja/report.json"} <= files
    assert files - inside == set()
    assert [name for name in names if name.split("/")[0] not in {"talim"} and ".dist-info/" not in name] == []


def is_assigned(name: str, text: str) -> bool:
    """Whether a module's text assigns a name, alone or among others."""
    return bool(re.search(rf"^ *(\w+, )*{name}(, \w+)*(: [\w.]+)? = ", text, re.MULTILINE))


def test_every_constant_in_the_table_of_what_was_fitted_on_what_exists() -> None:
    lines = (ROOT / "docs" / "reports" / "fitted-constants.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    assert len(rows) >= 18
    for where, names, data, *_ in rows:
        path = ROOT / "src" / "talim" / where.strip("`")
        named = re.findall(r"`(\w+)`", names)
        assert data
        assert path.is_dir() or named, where
        for name in named:
            text = path.read_text("utf-8")
            assert f'"{name}":' in text if path.suffix == ".json" else is_assigned(name, text), f"{where}: {name}"


@pytest.mark.parametrize(
    ("text", "assigned"),
    [("LEVEL = 1.0", True), ("A, LEVEL = 1, 2", True), ("    LEVEL: float = 1.0", True), ("x = LEVEL", False),
     ("LEVELS = 1", False)],
)  # fmt: skip
def test_is_assigned_finds_assignments_only(text: str, assigned: bool) -> None:
    assert is_assigned("LEVEL", text) is assigned
