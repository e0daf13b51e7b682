"""`/`: a plain page that shows what is served and lets a person try a prediction. Its files lie beside this module."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from inference.model_manager import ModelManager
from inference.servers.exchange import Exchange, Headers, Response
from inference.servers.model_index import model_index

Handler = Callable[[Exchange], Awaitable[Response]]

FILES = {  # path -> file, content type
    "/": ("start_page.html", b"text/html; charset=utf-8"),
    "/start_page.css": ("start_page.css", b"text/css; charset=utf-8"),
    "/start_page.js": ("start_page.js", b"text/javascript; charset=utf-8"),
    "/start_page.svg": ("start_page.svg", b"image/svg+xml"),
}
# Nothing from elsewhere, nothing inline, no frame around it; blob: shows the picture that the person has chosen.
HEADERS: Headers = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


def pages(models: ModelManager) -> dict[str, Mapping[str, Handler]]:
    """Path -> method -> handler: the page, its files, and the list of models that it reads."""
    found: dict[str, Mapping[str, Handler]] = {path: {"GET": partial(_file, path=path)} for path in FILES}
    found["/api/models"] = {"GET": partial(model_index, models=models)}
    return found


async def _file(exchange: Exchange, path: str) -> Response:
    return Response(200, _content(path), FILES[path][1], HEADERS)


@functools.cache
def _content(path: str) -> bytes:
    """A few kilobytes of the package, read once."""
    return Path(__file__).with_name(FILES[path][0]).read_bytes()
