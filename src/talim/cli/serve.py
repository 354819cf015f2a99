"""`talim serve`: generate music for other programs over HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import BaseOption, DeviceOption, HostOption, ProxyOption, UrlOption
from talim.html.formatting import format_counted

EXAMPLE = "Example: `talim serve --run my-run --tokens tokens.txt`"


def serve(
    run: Annotated[Path | None, typer.Option(help="A finished run, or a proof of concept: base and adapter.")] = None,
    base: BaseOption = None,
    adapter: Annotated[list[str] | None, typer.Option(help="An adapter's folder or Hub id. Repeatable.")] = None,
    tokens: Annotated[
        Path, typer.Option(help="File with NAME TOKEN in each line, one for each client; made if there is none.")
    ] = Path("talim-tokens.txt"),
    max_seconds: Annotated[float, typer.Option(min=1, max=1800, help="Longest piece that is made.")] = 60.0,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8767,
    url: UrlOption = None,
    proxy: ProxyOption = None,
    precision: Annotated[str, typer.Option(help="Number format of the base: auto, bf16, fp32 or int8.")] = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Generate music for other programs over HTTP: a queue, made in batches, with a token for each client."""
    from talim.listening import server as http

    http.require_packages()
    proxy = http.checked_proxy(proxy)
    http.base_url(host, port, url)  # refuses a wrong address before the model is loaded
    early_checks.check_loadable(base, device)
    from talim.generation import sources
    from talim.progress import default
    from talim.serving import server

    source = replace(sources.choose_source(run, base, adapter or [], False), precision=precision)
    address = server.Address(http.bind(host, port), host, url, proxy)

    def ready(clients: int) -> None:
        print(f"serving at {address.base_url}: the interface is described by {address.base_url}/openapi.json")
        print(f"tokens of {format_counted(clients, 'client')}: {tokens}", flush=True)

    server.serve_generation(source, address, tokens, max_seconds, device, default(), ready)
