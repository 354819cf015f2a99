"""House rules that a machine can check: sizes, names, docstrings, stray words, README and recipes."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from talim import recipe

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CODE = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
TEXT_ENDINGS = {".py", ".md", ".yaml", ".toml", ".txt", ".cff", ".html", ".css", ".js", ".json", ".jsonl", ""}
# Put together here, so that this file does not hold what it forbids.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "hugging" + "face.co",
    "pytorch" + ".org",
]
MACHINE_PATHS = re.compile(r"(?<![\w.:/<~-])/(?:home|Users|root|work|mnt|opt|private)/\w")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Files that git knows, or every file outside of the environment where there is no git."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    names = done.stdout.split("\0") if done.returncode == 0 else [relative(path) for path in CODE]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_files_are_short() -> None:
    assert [
        relative(path) for path in CODE if len(path.read_text(encoding="utf-8").splitlines()) >= 300
    ] == []


def test_no_junk_drawers() -> None:
    junk = {"utils", "util", "common", "helpers", "helper", "base", "misc", "other"}
    assert [relative(path) for path in CODE if path.stem in junk or path.parent.name in junk] == []


def test_nothing_big_but_the_weights() -> None:
    big = [
        path
        for path in tracked()
        if path.stat().st_size > 1_000_000 and "/nano/weights/" not in path.as_posix()
    ]
    assert [relative(path) for path in big] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_docstrings(path: Path) -> None:
    """Each module begins with a line that says what it is; each public function and class has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (ast.get_docstring(tree) or "").splitlines()[:1], "no module docstring"
    missing = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert missing == []


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        if path.suffix not in TEXT_ENDINGS or path.stat().st_size > 1_000_000:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found += [f"{relative(path)}: {host}" for host in REGISTRY_HOSTS if host in text]
        found += [f"{relative(path)}: {hit.group()}" for hit in MACHINE_PATHS.finditer(text)]
    assert found == []


def test_a_path_of_one_machine_would_be_seen() -> None:
    assert MACHINE_PATHS.search("see /ho" + "me/me/music")
    assert not MACHINE_PATHS.search("fed by the /home page and and/or work")


PAGES = (
    "docs/comparing.md",
    "docs/corpora.md",
    "docs/listening.md",
    "docs/poc.md",
    "docs/study.md",
    "docs/usefulness.md",
)


def documented_commands() -> list[str]:
    """Every `talim ...` line in the code blocks of README, CONTRIBUTING and some pages, continuation lines joined."""
    lines = []
    for name in ("README.md", "CONTRIBUTING.md", *PAGES):
        for block in re.findall(
            r"```(?:sh|bash|console)?\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL
        ):
            joined = block.replace("\\\n", " ")
            lines += [line.strip() for line in joined.splitlines() if line.strip().startswith("talim ")]
    return lines


def check_command(line: str) -> None:
    """Parse a command with the real command line, without running it; AssertionError where it is wrong."""
    from talim.cli import app

    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands"):
        assert arguments, f"{line}: no command"
        assert arguments[0] in command.commands, f"{line}: talim has no command {arguments[0]!r}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    try:
        command.make_context("talim", arguments)
    except Exception as error:  # typer brings its own copy of click's exceptions
        raise AssertionError(f"{line}: {error}") from error


@pytest.mark.parametrize("line", documented_commands())
def test_documented_command_exists_with_its_options(line: str) -> None:
    check_command(line)


def test_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert any(line.startswith("talim poc ") for line in documented_commands())


@pytest.mark.parametrize("line", ["talim train --out run --no-such-option", "talim nonsense", "talim report"])
def test_a_command_that_does_not_exist_would_be_seen(line: str) -> None:
    with pytest.raises(AssertionError, match="talim "):
        check_command(line)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/design.md", *PAGES])
def test_links_and_pictures_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_make_words_in_the_readme_are_in_the_makefile() -> None:
    words = set(re.findall(r"\bmake ([a-z-]+)\b", (ROOT / "README.md").read_text("utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"setup", "demo", "test", "test-slow", "check", "bench"} <= targets
    assert words & targets >= {"demo", "test", "check"}
    assert all(
        word in targets for word in words if f"`make {word}`" in (ROOT / "README.md").read_text("utf-8")
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/recipes/*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads(path: Path) -> None:
    loaded = recipe.load([path], {"corpus": "my-corpus"})
    for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if not isinstance(value, dict):
            assert getattr(loaded, key) == value


def test_there_are_recipes() -> None:
    assert "base" in recipe.builtin_overlays()


def test_every_dependency_is_pinned() -> None:
    pins = re.findall(r"^([a-z0-9._-]+)==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert sorted(names - set(pins)) == []
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
