"""Bad input is told at once by every command: before torch, transformers, peft or matplotlib are loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talim.cli import early_checks
from talim.errors import TalimError, UsageError

HEAVY = ("torch", "transformers", "peft", "matplotlib", "diffusers", "librosa")
LONG = "x" * 300
NEAR = "MISSINGG"  # what is there in place of MISSING
YAML = "no: [closed"
# every command with a folder or file that is missing, a name that is none, a misspelt option and a wrong value
BAD = [
    *(f"{command} --help" for command in ("", "prepare", "train", "listen", "brief report", "adapters check")),
    "prepare MISSING --out OUT",
    "prepare FOLDER --out OUT --format nonsense",
    f"prepare {LONG} --out OUT",
    "designs --base nope",
    f"designs --base {LONG}",
    "designs --base musicgen-small --design lineal@all:2%",
    "plan --base nope --design linear@all:2%",
    "plan --base musicgen-small --design linear@al:2%",
    "plan MISSING",
    "plan",
    "train --out OUT --corpus MISSING",
    "train --out OUT --config MISSING",
    "train --out OUT --corpus FOLDER --design linear@al:2%",
    "train --out OUT --corpus FOLDER --device tpu",
    f"train --out {LONG} --corpus FOLDER",
    "train --out OUT --set training.stepz=3",
    "train --otu OUT",
    "generate --run MISSING --prompt a --out OUT.flac",
    "generate --run FOLDER --prompt a --out OUT.flac",
    "generate --base nope --prompt a --out OUT.flac",
    "generate --base facebook/musicgen-small --prompt a --out OUT.flac",
    "generate --adapter MISSING --prompt a --out OUT.flac",
    "generate --base nano-musicgen --prompt a --out OUT.ogg",
    "generate --base nano-musicgen --prompt a --out OUT.flac --seconds nan",
    "generate --base nano-mustango --prompt a --out OUT.flac --seconds 1e7 --beats '400 bpm'",
    "generate --base nano-musicgen --prompt a --out OUT.flac --device tpu",
    "generate --base nano-musicgen --prompt a --out OUT.flac --adapter-scale 9",
    "generate --promt a --out OUT.flac",
    "evaluate MISSING",
    "evaluate FOLDER",
    "evaluate FOLDER --device tpu",
    "evaluate --real MISSING --generated FOLDER",
    "evaluate",
    "report MISSING",
    f"report {LONG}",
    "study MISSING --out OUT",
    "study BROKEN --out OUT",
    "study BROKEN --out OUT --dry-run",
    "poc MISSING --out OUT",
    "poc FOLDER --out OUT --base nope",
    "poc FOLDER --out OUT --base facebook/musicgen-small",
    "poc FOLDER --out OUT --design lineal@all:2%",
    "poc FOLDER --out OUT --device tpu",
    "poc FOLDER --out OUT --gates BROKEN",
    "demo --base nope --out OUT",
    "demo --hours x",
    "listen MISSING",
    "listen power --preference 2",
    "ratings MISSING",
    "ratings FOLDER --scores MISSING",
    "brief MISSING --out OUT",
    "brief BROKEN --out OUT",
    "brief report MISSING --out OUT",
    "brief export BROKEN --out OUT --to NEW",
    "modes MISSING",
    "copies MISSING FOLDER --out OUT",
    "adapters list MISSING",
    "adapters info MISSING",
    "adapters check MISSING",
    "adapters check FOLDER --base nope",
    "trian",
]
# Each command runs in a process of its own that begins where a new `talim` begins, with talim.cli imported, and with
# what the commands before it imported, where that is light: the processes of this list would load it sixty times.
RUNNER = """
import importlib, json, os, resource, shlex, sys
from talim.cli import main
for line in json.load(sys.stdin):
    child = os.fork()
    if not child:
        os.dup2(os.open("err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            main(shlex.split(line))
        except SystemExit as done:
            status = int(done.code or 0)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        with open("found", "w") as file:
            heavy = [name for name in HEAVY if name in sys.modules]
            light = [] if heavy else [name for name in sys.modules if name.startswith("talim.")]
            seconds = spent.ru_utime + spent.ru_stime
            json.dump({"status": status, "heavy": heavy, "light": light, "seconds": seconds}, file)
        os._exit(0)
    os.waitpid(child, 0)
    found = json.load(open("found"))
    for name in found["light"]:
        importlib.import_module(name)
    assert not [name for name in HEAVY if name in sys.modules]
    print(json.dumps({"line": line, "said": open("err").read(), **found}), flush=True)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What every line of BAD came to."""
    place = tmp_path_factory.mktemp("early")
    (place / "FOLDER").mkdir()
    (place / NEAR).mkdir()
    (place / "BROKEN").write_text(YAML)
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{RUNNER}"],
        input=json.dumps(BAD),
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(path.name for path in place.iterdir()) == ["BROKEN", "FOLDER", NEAR, "err", "found"]
    return {row["line"]: row for row in rows}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_told_before_anything_heavy_is_loaded(found: dict[str, dict], line: str) -> None:
    row = found[line]
    assert row["heavy"] == []
    assert "Traceback" not in row["said"]
    assert "bug in talim" not in row["said"]
    if "--help" in line:
        assert (row["status"], row["said"]) == (0, "")
    else:
        assert row["status"] in (1, 2)
        assert row["said"].count("\n") == 1
        assert len(row["said"]) < 1500
    assert row["seconds"] < 3.0  # of processor time; 0.2 to 1.0 where this was measured


def test_help_of_a_new_process_takes_a_moment() -> None:
    began = time.process_time(), os.times().children_user
    subprocess.run([sys.executable, "-m", "talim", "--help"], capture_output=True, check=True)
    assert os.times().children_user - began[1] < 3.0


def test_require_folder_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "no", "no such file or folder; expected X"), (tmp_path / "file", "is a file")):
        with pytest.raises(TalimError, match=words):
            early_checks.require_folder(path, "X")
    early_checks.require_folder(tmp_path, "X")


@pytest.mark.parametrize("name", [LONG, "a/" + "ş" * 200, "\0"])
def test_check_name_of_a_name_that_no_disk_takes_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no file or folder can have this name"):
        early_checks.check_name(Path(name))
    early_checks.check_name(Path("a" * 255))


def test_check_name_of_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="leads to itself"):
        early_checks.check_name(tmp_path / "loop")


@pytest.mark.parametrize("line", [line for line in BAD if "MISSING" in line])
def test_a_path_that_is_missing_is_told_with_the_one_that_is_near(found: dict[str, dict], line: str) -> None:
    assert f"did you mean {NEAR}?" in found[line]["said"]
