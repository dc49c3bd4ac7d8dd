"""A server for this machine alone: it binds to 127.0.0.1, bounds what it reads, and never shows a traceback."""

from __future__ import annotations

import io
import json
import secrets
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from maskformer_ext import __version__
from maskformer_ext.demo.routes import Answer, Refusal, Routes, error_answer
from maskformer_ext.errors import UserError, printable, why

HOST = "127.0.0.1"
_TRIED_PORTS = 50
_MOST_THREADS = 48
_MOST_JSON = 1 << 20
_PATIENCE = 20.0  # seconds for a request to arrive, or for the next piece of an answer to leave
_LEAST_RATE = 10_000  # bytes per second of an upload
_PIECE = 1 << 16  # of an answer
_GUARDS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Answer requests of this machine, a bounded number at a time.

    Args:
        routes: what it answers.
        port: where it listens; where it is taken, the next free one. 0: any.

    Raises:
        UserError: if no port is free.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, routes: Routes, port: int) -> None:
        self.routes = routes
        self._free_threads = threading.BoundedSemaphore(_MOST_THREADS)
        for tried in range(port, min(port + _TRIED_PORTS, 65536)):
            try:
                super().__init__((HOST, tried), _Handler)
                return
            except OSError as error:
                problem = error
        raise UserError(f"port={port} and those after it cannot be used ({why(problem)}): give another, or port=0")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for one of the threads, then answer in it."""
        self._free_threads.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free_threads.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the thread back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_threads.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that went away, and one line of everything else."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            print(f"warning: a request failed: {why(error)}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"maskformer-ext/{__version__}"
    sys_version = ""

    def setup(self) -> None:
        """Read through a deadline: a browser that sends a byte now and then would hold its thread for ever."""
        super().setup()
        self._arriving = _Arriving(self.connection)
        self.rfile = io.BufferedReader(self._arriving)

    def handle_one_request(self) -> None:
        """Answer the next request of a connection, if it arrives in time."""
        self._arriving.expect(_PATIENCE)
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no line per request."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is no HTTP, or of an unknown method."""
        self.close_connection = True
        self._send(error_answer(code, printable(message or "this request is not understood")))

    @property
    def _server(self) -> DemoServer:
        return cast(DemoServer, self.server)

    def _answer(self, work: Any) -> None:
        length = self.headers.get("Content-Length", "0")
        known = length.isdecimal() and len(length) < 16 and "Transfer-Encoding" not in self.headers
        self._unread = int(length) if known else -1
        try:
            self._check_sender()
            answer = work()
        except Refusal as error:
            answer = error_answer(error.status, str(error))
        except UserError as error:
            answer = error_answer(422, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except MemoryError:
            answer = error_answer(507, "there is not enough memory for this picture: give a smaller one")
        except Exception as error:
            print(f"warning: {printable(self.path)} failed: {type(error).__name__}: {why(error)}", file=sys.stderr)
            answer = error_answer(500, "this did not work: the terminal of the server says why")
        if self._unread:  # a body that nobody read would be taken for the next request
            self.close_connection = True
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        try:
            self.send_response(answer.status)
            headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **_GUARDS}
            for name, value in (headers | dict(answer.headers)).items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.connection.settimeout(_PATIENCE)
            self.end_headers()
            body = memoryview(answer.body)
            for start in range(0, len(body), _PIECE):  # the time is for each of them
                self.wfile.write(body[start : start + _PIECE])
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _check_sender(self) -> None:
        """Refuse what other pages of the browser send, and names of this machine that others may have made."""
        name, _, port = self.headers.get("Host", "").partition(":")
        if name not in (HOST, "localhost") or port not in (
            str(self._server.port),
            "" if self._server.port == 80 else "-",
        ):
            raise Refusal(403, f"this page answers at {self._server.address} only")
        if not self._path.startswith("/api/"):
            return
        if not secrets.compare_digest(self.headers.get("X-Token", "").encode(), self._server.routes.token.encode()):
            raise Refusal(403, "the server was started anew: load the page again")

    @property
    def _path(self) -> str:
        try:
            return urlsplit(self.path).path
        except ValueError:
            raise Refusal(404, "there is nothing at this address") from None

    def _get(self) -> Answer:
        return self._server.routes.get(self._path)

    def _post(self) -> Answer:
        if self._unread < 0 or "Content-Length" not in self.headers:
            self._unread = -1
            raise Refusal(411, "the length of the request is missing")
        self._arriving.expect(_PATIENCE + self._unread / _LEAST_RATE)
        if self._path == "/api/upload":
            return self._upload()
        if self._unread > _MOST_JSON:
            raise Refusal(413, "the request is too long")
        text = self.rfile.read(self._unread)
        self._unread = 0
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError):
            raise Refusal(400, "the request is no JSON") from None
        if not isinstance(asked, dict):
            raise Refusal(400, "the request must be a JSON object")
        return self._server.routes.post(self._path, asked)

    def _upload(self) -> Answer:
        most = self._server.routes.limits.upload_mb
        if self._unread > most * 1_000_000:
            raise Refusal(413, f"the file has {self._unread / 1e6:.0f} MB; at most {most} are taken (max_upload_mb=)")
        if not self._unread:
            raise Refusal(400, "the file is empty")
        length, self._unread = self._unread, 1
        answer = self._server.routes.upload(unquote(self.headers.get("X-Name", "picture")), self.rfile, length)
        self._unread = 0
        return answer


class _Arriving(io.RawIOBase):
    """What a connection sends, until a deadline."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._until = connection, 0.0

    def expect(self, seconds: float) -> None:
        """Set the deadline, from now on."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes, until the deadline."""
        self._connection.settimeout(max(1e-3, min(_PATIENCE, self._until - time.monotonic())))
        return self._connection.recv_into(buffer)
