"""A study conducted: its corpora made, every trial run that has no result yet, each result kept at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from talim.errors import TalimError
from talim.run import Run, write_text
from talim.stages.progress import Progress
from talim.stages.stopping import Stopped
from talim.study import corpora, grid
from talim.study.grid import Planned, Study
from talim.study.ledger import Ledger, Line
from talim.study.showing import Shown, mean_fall
from talim.study.trial import Bench, Order, drop, failed, run_trial

Executor = Callable[[Sequence[Order], Progress], Iterator[Line]]


def conduct(
    file: Path,
    out: Path,
    shown: Shown | None = None,
    *,
    retry: bool = False,
    device: str = "auto",
    execute: Executor | None = None,
) -> dict[str, Any]:
    """Run what is missing of the study in `file` into the folder `out`; how many trials are done, and which failed.

    Trials that failed are left alone unless `retry`. Raises UsageError for a file that is no study, TalimError where
    a corpus cannot be had or another process works in the folder, `Stopped` after Ctrl-C.
    """
    study, shown = grid.load(file), shown or Shown()
    planned = grid.expand(study)
    with Run(out).lock():
        write_text(out / "study.yaml", file.read_text(encoding="utf-8"))
        ledger = Ledger(out)
        missing = [each for each in planned if not ledger.done(each.id)]
        missing = [each for each in missing if retry or not ledger.failed(each.id)]
        orders = _orders(study, missing, file.parent, out, device, shown)
        shown.say(f"{out}: {len(planned)} trials, {len(missing)} of them to run")
        shown.begin(planned, {key: line for key, line in ledger.lines.items() if key not in _ids(missing)})
        try:
            for line in (execute or in_this_process)(orders, shown):
                ledger.add(line)
                shown.add(line, told(line, ledger, planned))
                if study.keep == "results" and line["status"] == "done":
                    drop(Run(out / "runs" / line["id"]))
        except Stopped as stopped:
            raise stopped.within_another() from None
        finally:
            shown.close()
    lines = [ledger.lines[each.id] for each in planned if each.id in ledger.lines]
    return {
        "study": str(out),
        "trials": len(planned),
        "done": sum(line["status"] == "done" for line in lines),
        "failed": [line for line in lines if line["status"] == "failed"],
        "results": str(ledger.path),
    }


def listing(file: Path, out: Path) -> list[tuple[Planned, str, str]]:
    """Every trial with what is known of it ("done", "failed", "missing") and its base; nothing is written."""
    lines = Ledger(out, repair=False).lines
    planned = grid.expand(grid.load(file))
    return [
        (each, lines.get(each.id, {}).get("status", "missing"), base_of(each.base, file.parent))
        for each in planned
    ]


def executor_for(jobs: int, ray: str | None, device: str, progress: Progress) -> Executor:
    """Where trials run: on a Ray cluster, in worker processes (of one thread, or on a GPU each), or here.

    `jobs` 0 is one worker a GPU, or one a core where there is none.
    """
    if ray is not None:
        from talim.study.cluster import Cluster
        from talim.study.foretold import Foretold

        foretold = Foretold(None, progress)
        return Cluster(ray, attempt, lambda order: foretold.needs(order.planned, order.base), jobs or None)
    if jobs == 1:
        return in_this_process
    from talim.study.workers import Workers, visible_gpus

    gpus = visible_gpus() if device in ("auto", "cuda") else []
    return Workers(jobs or os.cpu_count() or 1, attempt, gpus[: jobs or None])


def in_this_process(orders: Sequence[Order], progress: Progress) -> Iterator[Line]:
    """One trial after the other, here."""
    bench = Bench()
    for order in orders:
        yield attempt(order, bench, progress)


def attempt(order: Order, bench: Bench, progress: Progress) -> Line:
    """The line of a trial, whatever becomes of it; only a wish to stop is passed on."""
    try:
        return run_trial(order, bench, progress)
    except Stopped:
        raise
    except Exception as error:
        return failed(
            order.planned, str(error) if isinstance(error, TalimError) else f"{type(error).__name__}: {error}"
        )


def told(line: Line, ledger: Ledger, planned: Iterable[Planned]) -> str:
    """A finished trial in a line, with how far the study is."""
    planned = list(planned)
    count = sum(each.id in ledger.lines for each in planned)
    what = f"[{count}/{len(planned)}] {line['id']} {line['design']}, {line['corpus']}, seed {line['seed']}: "
    if line["status"] == "failed":
        return what + f"failed: {line['error']}"
    return what + f"the loss fell by {mean_fall(line):.4f} in {line['cost']['seconds']:.1f} s"


def _ids(planned: Sequence[Planned]) -> set[str]:
    return {each.id for each in planned}


def _orders(
    study: Study, missing: Sequence[Planned], beside: Path, out: Path, device: str, progress: Progress
) -> list[Order]:
    """What is to be run, on corpora that are there."""
    places = {}
    for name in dict.fromkeys(each.corpus for each in missing):
        places[name] = corpora.made(study.corpora[name], name, out, beside, progress).folder.resolve()
    return [
        Order(each, out.resolve(), places[each.corpus], base_of(each.base, beside), device)
        for each in missing
    ]


def base_of(name: str, beside: Path) -> str:
    """A folder beside the YAML file, or what else the name stands for."""
    folder = beside / name
    return str(folder.resolve()) if (folder / "config.json").is_file() or (folder / "ldm").is_dir() else name
