"""`talim brief`: is what a design makes of use for a task, at what cost?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from talim.cli.options import DeviceOption, JsonOption, show
from talim.errors import UsageError


def brief(
    file: Annotated[Path, typer.Argument(help="The brief, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for candidates, reviews and results.")],
    run: Annotated[
        list[Path] | None, typer.Option(help="A run that makes candidates. May be repeated.")
    ] = None,
    links: Annotated[int, typer.Option(min=0, max=500, help="Make this many reviewers' links.")] = 0,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make candidates and links, and do not serve.")
    ] = False,
    result: Annotated[
        bool, typer.Option("--result", help="Only measure the reviews made so far: a page.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Only write the accepted pieces to this new folder.")
    ] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="For --export: for commercial use, where licences allow it.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to serve at; only this machine unless told.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8766,
    url: Annotated[str | None, typer.Option(help="Public address, if a proxy serves it by https.")] = None,
    database: Annotated[str | None, typer.Option(help="Database URL; else DIR/reviews.db (SQLite).")] = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Turn a brief into candidates from each design, have them reviewed, and say what an accepted minute costs."""
    from talim.briefs import brief as briefs_brief
    from talim.listening import server

    if commercial and export is None:
        raise UsageError("--commercial is for --export FOLDER; add that")
    if result and export is not None:
        raise UsageError("--result and --export are two steps; ask for one at a time")
    server.require_packages()
    wanted = briefs_brief.load(file)
    if export is not None:
        from talim.briefs import delivery

        made = delivery.export_accepted(out, wanted, export, commercial=commercial, database=database)
        show(made, json_, "\n".join(str(export / piece["file"]) for piece in made))
    elif result:
        from talim.briefs import report as results

        measured = results.write_acceptance_report(out, wanted, database)
        show(measured, json_, "\n".join([*measured["sentences"], f"Page: {measured['page']}"]))
    else:
        _review(
            wanted, run or [], out, links, database, device, json_, None if prepare else (host, port, url)
        )


def _review(
    wanted: Any,
    runs: list[Path],
    out: Path,
    links: int,
    database: str | None,
    device: str,
    json_: bool,
    place: tuple[str, int, str | None] | None,
) -> None:
    """Make what candidates are missing, tell the links, and serve them at `place` (host, port, url) if there is one."""
    from talim import progress
    from talim.briefs import candidates, decision_rule, review_app, review_session
    from talim.listening import server

    if not runs and (out / candidates.TABLE).is_file():
        rows = candidates.read_candidates(out)  # to serve again what is there
    else:
        frozen = review_session.is_frozen(out, database)
        rows = candidates.generate_candidates(
            wanted, runs, out, progress.for_terminal(), device, frozen=frozen
        )
    table = decision_rule.write_indicators(out, wanted)
    ready = review_session.open_brief(out, wanted, database)
    bound = server.bind(*place[:2]) if place else None
    host, port, url = place or ("127.0.0.1", 8766, None)
    start = server.base_url(host, bound.getsockname()[1] if bound else port, url)
    made = server.listener_links(start, ready.reviews.add_reviewers(links)) if links else []
    passed = sum(all(check["passed"] is not False for check in row["checks"]) for row in rows)
    told = {
        "folder": str(out),
        "brief": ready.digest,
        "candidates": len(rows),
        "passed": passed,
        "links": made,
    }
    told |= {"indicators": str(table)} if table else {}
    spoken = f"{len(rows)} candidates in {out}, {passed} of them passed every automatic check"
    show(told, json_, "\n".join([spoken, *(f"Reviewer: {link}" for link in made)]))
    sys.stdout.flush()
    if bound is None:
        return
    if not server.is_loopback(host) and url is None:
        print("this address can be reached by others, without https; see --url", file=sys.stderr)
    application = review_app.create_app(ready, hosts=server.allowed_hosts(host, url))
    server.serve(application, bound, behind_proxy=url is not None)
