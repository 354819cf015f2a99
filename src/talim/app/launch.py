"""Starting and ending the server of `talim app`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from talim.app.workspace import Workspace
from talim.interrupts import Interrupted
from talim.listening import server

GUIDE = "docs/guides/app.md"


def serve_app(folder: Path, host: str, port: int, open_browser: bool) -> None:
    """Serve the app of a folder until interrupted; prints its address first. Raises Interrupted at the end."""
    from talim.app.application import create_app

    work = Workspace(folder)
    application = create_app(work, hosts=server.allowed_hosts(host, None))
    bound = server.bind(host, port)
    link = f"{server.base_url(host, bound.getsockname()[1], None)}/#{work.token}"
    print(f"open in a browser: {link}", flush=True)
    who = "this computer only" if server.is_loopback(host) else "every computer in this network, without https"
    notes = [f"the address opens on {who}, and is the key to {work.folder}; see {GUIDE}"]
    notes.append("Ctrl-C ends the server; a command that runs goes on, and the same command shows it again")
    if open_browser and _has_screen():
        webbrowser.open(link)
    server.run_server(application, bound, notes, ending=application.app.state.app.ending)
    raise Interrupted("the server has ended; the same command serves on")


def _has_screen() -> bool:
    """Whether a browser can be shown here: a text browser would take the terminal."""
    screens = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screens) and sys.stdout.isatty()
