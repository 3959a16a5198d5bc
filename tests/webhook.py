"""A webhook on 127.0.0.1 that keeps what it is sent, over real HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATH = "/services/T0/B0/s3cret"


class Webhook:
    """Answers each post with the next of `answers` (status, body), then with 200 ok, and keeps what was posted."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.posts: list[Any] = []
        waiting = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                if handler.path == PATH and handler.headers["Content-Type"] == "application/json":
                    self.posts.append(json.loads(body))
                status, words = waiting.pop(0) if waiting else (200, "ok")
                handler.send_response(status)
                handler.send_header("Location", "/services/elsewhere")
                handler.end_headers()
                handler.wfile.write(words.encode())

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{PATH}"

    @property
    def texts(self) -> list[str]:
        assert all(set(post) == {"text"} for post in self.posts)
        return [post["text"] for post in self.posts]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
