"""Error responses of the servers' APIs: {"reason": text} in one line, that echoes nothing of what was sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from talim.terminal_text import one_line

_OF_FRAMEWORK = {"Not Found": "not_found", "Method Not Allowed": "method_not_allowed"}  # where no route takes a request


def add_error_handlers(
    api: FastAPI, log: logging.Logger, answers: Mapping[type[Exception], Callable[[Any], tuple[int, dict[str, Any]]]]
) -> None:
    """Answer errors of these types with a status and a body, HTTP errors with their detail, and OSError with 503.

    A body without a "reason" is one of what the machine could not do now (a full disk, a lock that another program
    holds, a sound that is gone): it is logged, and the page asks again.
    """

    async def answered(request: Request, error: Exception) -> JSONResponse:
        kind = next(kind for kind in type(error).__mro__ if kind in known)
        status, body = known[kind](error)
        if "reason" in body:
            return JSONResponse(body, status, getattr(error, "headers", None))
        path = getattr(request.scope.get("route"), "path", "?")  # of the route, without the values in it
        log.error(f"{request.method} {path} failed: {one_line(str(error), 300)}")
        return JSONResponse({"reason": "unavailable"}, status, {"retry-after": "2"})

    known = {HTTPException: _http_error, OSError: machine_failed, **answers}
    for kind in known:
        api.add_exception_handler(kind, answered)


def machine_failed(_error: Exception) -> tuple[int, dict[str, Any]]:
    """The answer to what the machine could not do now."""
    return 503, {}


def _http_error(error: HTTPException) -> tuple[int, dict[str, Any]]:
    return error.status_code, {"reason": _OF_FRAMEWORK.get(error.detail, error.detail)}
