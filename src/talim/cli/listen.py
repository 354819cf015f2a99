"""`talim listen`: serve a blind listening test, or plan the number of its listeners."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from talim.cli.default_command import DefaultCommandGroup
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import DatabaseOption, HostOption, JsonOption, NoServeOption, ProxyOption, UrlOption, show

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    help="Blind listening tests over runs, the untrained base and real music. "
    "`talim listen FOLDER` is `talim listen serve FOLDER`.",
)


@app.command(epilog="Example: `talim listen my-poc --invites 12`")
def serve(
    folder: Annotated[Path, typer.Argument(help="A run, a folder of runs, or a folder with protocol.yaml.")],
    invites: Annotated[int, typer.Option(min=0, max=500, help="Create this many listener links.")] = 0,
    no_serve: NoServeOption = False,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    url: UrlOption = None,
    proxy: ProxyOption = None,
    site: Annotated[str, typer.Option(help="Name of this site in exported votes.")] = "here",
    database: DatabaseOption = None,
    json_: JsonOption = False,
) -> None:
    """Serve a blind listening test; drafts its protocol from the runs in a folder that has none."""
    from talim.listening import server

    server.require_packages()
    proxy = server.checked_proxy(proxy)
    server.base_url(host, port, url)  # refuses a wrong address before the stimuli are made
    test = server.prepare_session(folder, database, site, lambda text: print(text, file=sys.stderr))
    address = None if no_serve else server.bind(host, port)
    base = server.base_url(host, address.getsockname()[1] if address else port, url)
    links = server.listener_links(base, test.store.invite(invites)) if invites else []
    organiser = f"{base}/organiser#{test.organiser_token}"
    document = {"folder": str(test.folder), "test": test.test_hash, "organiser": organiser, "links": links}
    lines = [f"Organiser: {organiser}", *(f"Listener: {link}" for link in links)]
    if no_serve:
        lines.append(f"next: talim listen {quote(str(folder))} serves the test; links open while it runs")
    show(document, json_, "\n".join(lines))
    if address is not None:
        from talim.listening.app import create_app

        application = create_app(test, hosts=server.allowed_hosts(host, url))
        server.serve(application, address, host, url, test.store, proxy)


@app.command(epilog="Example: `talim listen power --preference 0.65`")
def power(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A test or a folder of runs, for its number of trials and pairs of conditions."),
    ] = None,
    preference: Annotated[float, typer.Option(help="Preference rate to be detected, above 0.5 and below 1.")] = 0.65,
    icc: Annotated[float, typer.Option(help="Intraclass correlation of the votes of one listener, 0 to 1.")] = 0.1,
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """Print the number of listeners needed to detect a preference rate."""
    check_language(language)
    from talim.html.languages import from_fields
    from talim.listening import server

    plan = server.plan_listeners(folder, preference, icc)
    show_in(language, plan, json_, lambda code: from_fields(plan, "sentence").get(code, plan["sentence"]))
