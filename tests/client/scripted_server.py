"""A real HTTP server that answers from a script, for what a healthy service never does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """Answers from `script` in order; the last answer stands for all further calls."""

    url: str
    script: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def next(self) -> Answer:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def serve() -> Iterator[ScriptedServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen = Seen(self.command, self.path, dict(self.headers), self.rfile.read(length))
            scripted.seen.append(seen)
            answer = scripted.next()
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = ScriptedServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield scripted
    server.shutdown()
    thread.join()
    server.server_close()


def job_json(**changes: object) -> bytes:
    job = {
        "object": "job",
        "id": "job_1",
        "status": "queued",
        "done": False,
        "verdict": None,
        "project": "default",
        "run": None,
        "labels": {},
        "metadata": {},
        "progress": None,
        "partial": None,
        "attempt": 0,
        "max_attempts": 3,
        "queue": "cpu",
        "priority": 0,
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "deadline_at": None,
        "cancel_requested_at": None,
        "error": None,
        "retry_of": None,
        "deduplicated": False,
        "usage": None,
        "urls": {
            "self": "/v1/jobs/job_1",
            "cancel": "/v1/jobs/job_1/cancel",
            "retry": "/v1/jobs/job_1/retry",
            "events": "/v1/jobs/job_1/events",
            "report": "/v1/jobs/job_1/report",
            "web": "/jobs/job_1",
        },
    }
    return json.dumps(job | changes).encode()


def problem_json(status: int, **changes: object) -> bytes:
    problem = {
        "type": "/problems/some",
        "title": "Some",
        "status": status,
        "detail": "something is wrong",
        "instance": "/v1/jobs",
        "code": "some",
        "request_id": "req_1",
        "retryable": False,
        "errors": [],
    }
    return json.dumps(problem | changes).encode()
