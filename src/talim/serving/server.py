"""Starting and ending `talim serve`: tokens, the model, the queue, the server."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talim.errors import UsageError
from talim.interrupts import Interrupted
from talim.listening import server
from talim.listening.participant_store import hash_token
from talim.terminal_text import one_line

if TYPE_CHECKING:
    import socket

    from talim.generation.sources import GenerationSource
    from talim.progress import Progress

MIN_TOKEN_CHARACTERS = 20
GUIDE = "docs/guides/serve.md"
ENDING = "Ctrl-C ends the server; pieces that were not fetched are deleted then"


@dataclass(frozen=True)
class Address:
    """Where to serve: a bound socket, its host, the public address and the proxy, as `talim listen` takes them."""

    bound: socket.socket
    host: str
    url: str | None
    proxy: str | None

    @property
    def base_url(self) -> str:
        return server.base_url(self.host, self.bound.getsockname()[1], self.url)


def read_tokens(path: Path) -> dict[str, str]:
    """Clients' tokens by name, from a file with "NAME TOKEN" in each line; made with one client where there is none.

    UsageError for a file that holds something else.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"client-1 {secrets.token_urlsafe(24)}\n")
    tokens: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--tokens {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) < MIN_TOKEN_CHARACTERS:
            raise UsageError(
                f"--tokens {path}: line {number}: expected NAME TOKEN, with a token of {MIN_TOKEN_CHARACTERS} or more "
                "characters that nobody can guess"
            )
        if words[0] in tokens or words[1] in tokens.values():
            raise UsageError(f"--tokens {path}: line {number}: this name or token is there twice")
        tokens[words[0]] = words[1]
    if not tokens:
        raise UsageError(f"--tokens {path}: holds no token; delete it, and a new one is made")
    return tokens


def serve_generation(
    source: GenerationSource,
    address: Address,
    tokens: Path,
    max_seconds: float,
    device: str,
    progress: Progress,
    ready: Callable[[int], None],
) -> None:
    """Load the model, then answer requests until interrupted.

    `ready` is called with the number of clients when the first can be made; a file of `tokens` that is not there is
    made then. Results are kept in a temporary folder that is deleted at the end. Raises Interrupted at the end.
    """
    if tokens.exists():
        read_tokens(tokens)  # a wrong file is refused before the base is loaded
    from talim.backbones.adapter_folder import AdapterFolder
    from talim.generation.sources import load_source
    from talim.serving.app import ServedModel, Service, create_app
    from talim.serving.generation_queue import GenerationQueue
    from talim.serving.piece_maker import PieceMaker, resolved_options

    resolved_options(source.base, {})
    backbone = load_source(source, device, progress)
    folders = [AdapterFolder(choice.folder) for choice in source.adapters]
    model = ServedModel(
        base=backbone.name,
        base_licence=backbone.licence,
        adapters=[one_line(folder.folder.resolve().parent.name) for folder in folders],
        adapter_licences=[folder.licence for folder in folders],
        sample_rate_hz=backbone.rate_hz,
        max_seconds=max_seconds,
    )
    adapters = f"; adapters: {', '.join(model.adapters)}" if folders else ""
    progress.log(f"base: {backbone.name}, licence {backbone.licence}{adapters}")
    with tempfile.TemporaryDirectory(prefix="talim-serve-") as folder:
        queue = GenerationQueue(PieceMaker(backbone, source), Path(folder))
        clients = {hash_token(token): name for name, token in read_tokens(tokens).items()}
        service = Service(queue, model, clients, lambda given: resolved_options(source.base, given))
        hosts = server.allowed_hosts(address.host, address.url)
        queue.start()
        ready(len(clients))
        who = "programs on this computer only" if server.is_loopback(address.host) else "every computer in this network"
        if address.url is not None:
            who = f"whoever reaches {address.url} with a token"
        notes = [f"{who} can ask for music; see {GUIDE}", ENDING]
        try:
            server.run_server(create_app(service, hosts), address.bound, notes, address.proxy)
        finally:
            queue.stop()
    raise Interrupted("the server has ended; the same command serves on")
