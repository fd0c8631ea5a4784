"""A chat-completions server on loopback that behaves as each test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def send(handler: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


def completion(text: str, **changed: Any) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage} | changed)


def echo(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
    """Answers with what was asked, in upper case."""
    send(handler, 200, completion(request["messages"][-1]["content"].upper()))


@dataclass
class Server:
    """Its address, what it was asked with which headers, and what it does to the next requests, then to all others."""

    url: str
    script: list[Behaviour] = field(default_factory=list)
    otherwise: Behaviour = echo
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0


@contextmanager
def serving() -> Iterator[Server]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append(request)
                server.headers.append({name.title(): value for name, value in self.headers.items()})
                behave = server.script.pop(0) if server.script else server.otherwise
                server.open += 1
                server.most_open = max(server.most_open, server.open)
            try:
                behave(self, request)
            finally:
                with lock:
                    server.open -= 1

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server = Server(f"http://127.0.0.1:{listening.server_port}/v1")
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
