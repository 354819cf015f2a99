"""What people hear and say: `talim listen`, `talim ratings`, and `talim brief`, which lies beside this file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from talim.cli.brief import brief
from talim.cli.options import JsonOption, show


def register_commands(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    app.command(epilog="Example: `talim listen my-poc --links 12`")(listen)
    app.command(epilog="Example: `talim ratings my-poc --with other-site.jsonl`")(ratings)
    app.command(epilog="Example: `talim brief jingle.yaml --run my-run --out my-jingle --links 2`")(brief)


def listen(
    folder: Annotated[Path, typer.Argument(help="A run, a folder of runs, or a folder with protocol.yaml.")],
    links: Annotated[int, typer.Option(min=0, max=500, help="Make this many listeners' links.")] = 0,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make sounds and links, and do not serve.")
    ] = False,
    plan: Annotated[
        float | None, typer.Option(help="Only tell how many listeners see this preference, such as 0.65.")
    ] = None,
    clustering: Annotated[
        float, typer.Option(help="For --plan: how alike one listener's votes are, 0 to 1.")
    ] = 0.1,
    host: Annotated[
        str, typer.Option(help="Address to serve at; only this machine unless told.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    url: Annotated[str | None, typer.Option(help="Public address, if a proxy serves it by https.")] = None,
    site: Annotated[str, typer.Option(help="Name of this site in the results.")] = "here",
    database: Annotated[str | None, typer.Option(help="Database URL; else DIR/votes.db (SQLite).")] = None,
    json_: JsonOption = False,
) -> None:
    """Serve a blind listening test over runs, the untrained base and held-out music."""
    from talim.listening import server

    if plan is not None:
        told = server.plan_listeners(folder, plan, clustering)
        show(told, json_, told["sentence"])
        return
    test = server.prepare_session(folder, database, site, lambda text: print(text, file=sys.stderr))
    bound = None if prepare else server.bind(host, port)
    start = server.base_url(host, bound.getsockname()[1] if bound else port, url)
    made = server.listener_links(start, test.store.add_listeners(links)) if links else []
    organiser = f"{start}/organiser#{test.organiser_token}"
    told = {"folder": str(test.folder), "test": test.digest, "organiser": organiser, "links": made}
    show(told, json_, "\n".join([f"Organiser: {organiser}", *(f"Listener: {link}" for link in made)]))
    sys.stdout.flush()
    if bound is None:
        return
    if not server.is_loopback(host) and url is None:
        print("this address can be reached by others, without https; see --url", file=sys.stderr)
    from talim.listening.app import create_app

    application = create_app(test, hosts=server.allowed_hosts(host, url))
    server.serve(application, bound, behind_proxy=url is not None)


def ratings(
    folder: Annotated[Path, typer.Argument(help="The folder that talim listen served.")],
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="Another site's JSONL export. May be repeated.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="JSON of automatic scores by metric and condition, to compare.")
    ] = None,
    database: Annotated[str | None, typer.Option(help="Database URL; else DIR/votes.db.")] = None,
    json_: JsonOption = False,
) -> None:
    """Say what listeners said: strengths with intervals over listeners, agreement, a page."""
    from talim.listening.ratings_report import rate_folder, sentences

    result = rate_folder(folder, others or (), scores, database)
    show(result, json_, f"{sentences(result)}\nPage: {result['page']}")
