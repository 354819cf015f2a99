"""`talim brief`: is what a design generates useful for a task, and at what cost?"""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.default_command import DefaultCommandGroup
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import (
    DatabaseOption,
    DeviceOption,
    HostOption,
    JsonOption,
    NoServeOption,
    ProxyOption,
    UrlOption,
    show,
)
from talim.html.formatting import format_counted

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    help="Usefulness for a task: generate candidates for a brief, have them reviewed, compute the cost per accepted "
    "minute. `talim brief BRIEF.yaml` is `talim brief review BRIEF.yaml`.",
)
BriefArgument = Annotated[Path, typer.Argument(metavar="BRIEF", help="The brief, a YAML file.")]
OutOption = Annotated[Path, typer.Option(help="Folder of candidates, reviews and results.")]


@app.command(epilog="Example: `talim brief jingle.yaml --run my-run --out my-jingle --invites 2`")
def review(
    file: BriefArgument,
    out: OutOption,
    run: Annotated[list[Path] | None, typer.Option(help="A run that generates candidates. Repeatable.")] = None,
    invites: Annotated[int, typer.Option(min=0, max=500, help="Create this many reviewer links.")] = 0,
    no_serve: NoServeOption = False,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8766,
    url: UrlOption = None,
    proxy: ProxyOption = None,
    database: DatabaseOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Generate the missing candidates of each run, check them, and serve the review."""
    early_checks.require_yaml(file, "the brief, a YAML file")
    from talim.listening import server

    server.require_packages()
    from talim import progress
    from talim.briefs import brief as briefs
    from talim.briefs import candidates, decision_rule, review_app, review_session
    from talim.briefs.acceptance import none_failed
    from talim.briefs.report import checks_passed, few_candidates

    brief = briefs.load(file)
    if not run and (out / candidates.TABLE).is_file():
        rows = candidates.read_candidates(out)  # serve the existing ones again
        candidates.require_current(out, brief, rows)
    else:
        frozen = review_session.is_frozen(out, database)
        rows = candidates.generate_candidates(brief, run or [], out, progress.default(), device, frozen=frozen)
    indicators = decision_rule.write_indicators(out, brief)
    session = review_session.open_brief(out, brief, database)
    address = None if no_serve else server.bind(host, port)
    base = server.base_url(host, address.getsockname()[1] if address else port, url)
    links = server.listener_links(base, session.store.invite(invites)) if invites else []
    document = {"folder": str(out), "brief": session.brief_hash, "candidates": len(rows), "passed": none_failed(rows)}
    document |= {"links": links} | ({"indicators": str(indicators)} if indicators else {})
    summary = f"{format_counted(len(rows), 'candidate')} in {out}, {checks_passed(rows)['en']}"
    few = few_candidates(brief.candidates, brief).get("en")
    document |= {"warning": few} if few else {}
    lines = [summary, *([f"warning: {few}"] if few else []), *(f"Reviewer: {link}" for link in links)]
    if no_serve:
        serve = f"talim brief {quote(str(file))} --out {quote(str(out))}{'' if links else ' --invites 2'}"
        lines.append(f"next: {serve} serves the review; links open while it runs")
    show(document, json_, "\n".join(lines))
    if address is not None:
        for note in server.invite_notes(session.store, links, "reviewer"):
            print(note, file=sys.stderr)
        application = review_app.create_app(session, hosts=server.allowed_hosts(host, url))
        server.serve(application, address, host, url, session.store, server.checked_proxy(proxy))


@app.command(epilog="Example: `talim brief report jingle.yaml --out my-jingle`")
def report(
    file: BriefArgument,
    out: OutOption,
    database: DatabaseOption = None,
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """Write usefulness.json and a page from the reviews made so far."""
    check_language(language)
    early_checks.require_yaml(file, "the brief, a YAML file")
    from talim.listening import server

    server.require_packages()
    from talim.briefs import brief as briefs
    from talim.briefs.report import write_acceptance_report
    from talim.reporting.messages import people_message

    result = write_acceptance_report(out, briefs.load(file), database)
    show_in(language, result, json_, lambda code: people_message(result, code))


@app.command(epilog="Example: `talim brief export jingle.yaml --out my-jingle --to delivered --commercial`")
def export(
    file: BriefArgument,
    out: OutOption,
    to: Annotated[Path, typer.Option(help="New folder for the accepted pieces.")],
    commercial: Annotated[
        bool,
        typer.Option("--commercial", help="For commercial use: only if all rights are on record and none forbids it."),
    ] = False,
    database: DatabaseOption = None,
    json_: JsonOption = False,
) -> None:
    """Write the accepted pieces with tags, provenance.json and LICENCE.txt to a new folder.

    Exit status 1 if --commercial is given and a licence, consent or performer is unknown or forbids it.
    """
    early_checks.require_yaml(file, "the brief, a YAML file")
    from talim.listening import server

    server.require_packages()
    from talim.briefs import brief as briefs
    from talim.briefs.delivery import export_accepted

    pieces = export_accepted(out, briefs.load(file), to, commercial=commercial, database=database)
    show(pieces, json_, "\n".join(str(to / piece["file"]) for piece in pieces))
