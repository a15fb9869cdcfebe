"""Links to outputs, answered on a loopback port as the web layer answers them; nothing else of it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.local.object_store import FoundFile


@contextmanager
def serving(open_link: Callable[[str, str], FoundFile | None], listener: socket.socket) -> Iterator[None]:
    def file(request: Request) -> Response:
        found = open_link(request.path_params["token"], request.path_params["key"])
        return FileResponse(found.path, media_type=found.content_type) if found else PlainTextResponse("", 404)

    app = Starlette(routes=[Route("/files/{token}/{key:path}", file)])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
