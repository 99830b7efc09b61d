"""The HTTP side of the simulator: connections, dispatch, sending, holding. What an answer says lives in the
formats.

http.server with a thread a connection: it is in the standard library, its threads render and compress
outside the GIL, and a real socket is what the clients under test must cope with. An ASGI server was
rejected: another dependency for no more truth.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Self
from urllib.parse import unquote

from cachelayer import dialects
from cachelayer.dialects.dialect import Recognised
from cachelayer.dialects.gemini import Gemini
from cachelayer.dialects.openai_images import OpenAIImages
from cachelayer.simulator import gemini, openai_images
from cachelayer.simulator.behaviour import Behaviour, Call, Director
from cachelayer.simulator.journal import Journal, Recorded
from cachelayer.simulator.render import Picture
from cachelayer.simulator.reply import Reply

LARGEST_BODY = 2_000_000_000
"""Bytes; a larger request body is refused with 413. Far above 14 reference images of 20 MB each."""

_FORMATS: Final[dict[str, Callable[[Recognised, str, bytes, Call], Reply]]] = {
    Gemini.name: gemini.answer,
    OpenAIImages.name: openai_images.answer,
}
"""By the dialect that recognises the path."""
_KEPT_FILES = 100
_PEEK_SECONDS = 0.1
"""How often a held call looks whether its peer has gone."""

_log = logging.getLogger("cachelayer.simulator")


class Simulator:
    """A provider on 127.0.0.1, from ``start()`` (or ``with``) to ``stop()``.

    latency: seconds until an answer begins, or a (low, high) pair that is drawn from for every call.
    error_rate, block_rate, text_only_rate, truncate_rate, disconnect_rate: shares of calls, 0 to 1, not
    above 1 together. rate_limit: generation calls in any 60 seconds; above it 429 with retry-after.
    seed: image bytes depend on (seed, prompt, pixels, format, index, number of references); behaviours,
    latencies, ids, cookies and ``created`` on (seed, ordinal of the call). Only the Date header and the
    rate limit read a clock.
    port: 0 lets the system choose. compress: gzip JSON answers for clients that accept it.
    keep_requests: how many requests ``requests`` holds at most (and at most 512 MB of bodies).

    A generation call is a POST to a path of one of the two formats; everything else (``GET /v1/models``) is
    answered and recorded, but neither counted nor drawn for. Credentials are not checked. Raises ValueError
    for arguments out of range. All methods and properties are thread-safe.
    """

    def __init__(
        self,
        latency: float | tuple[float, float] = 0.0,
        error_rate: float = 0.0,
        rate_limit: int | None = None,
        block_rate: float = 0.0,
        text_only_rate: float = 0.0,
        truncate_rate: float = 0.0,
        disconnect_rate: float = 0.0,
        seed: int = 0,
        port: int = 0,
        *,
        compress: bool = False,
        keep_requests: int = 1000,
    ) -> None:
        rates = {
            Behaviour.ERROR: error_rate,
            Behaviour.BLOCK: block_rate,
            Behaviour.TEXT_ONLY: text_only_rate,
            Behaviour.TRUNCATE: truncate_rate,
            Behaviour.DISCONNECT: disconnect_rate,
        }
        director = Director(latency=latency, rates=rates, rate_limit=rate_limit, seed=seed, clock=time.monotonic)
        self._journal = Journal(director, keep_requests)
        self._wanted_port = port
        self._compress = compress
        self._gate = threading.Event()
        self._gate.set()
        self._stopping = threading.Event()
        self._files: OrderedDict[str, Picture] = OrderedDict()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port: int | None = None

    def start(self) -> Self:
        """Listen. Raises RuntimeError when it already does, OSError when the port is taken."""
        if self._server is not None:
            raise RuntimeError("the simulator is already running")
        self._stopping.clear()
        self._server = _Server(("127.0.0.1", self._wanted_port), self)
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="cachelayer-simulator", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection, held calls included. Idempotent; the counts stay readable."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is None or thread is None:
            return
        self._stopping.set()
        self._gate.set()
        server.shutdown()
        thread.join()
        server.hang_up()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port; it stays known after stop(). Raises RuntimeError before start()."""
        if self._port is None:
            raise RuntimeError("the simulator has not been started")
        return self._port

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> int:
        """Generation calls whose request arrived whole, however they were answered."""
        return self._journal.calls

    @property
    def answered(self) -> int:
        """Good answers sent to their end: what was asked for, every image inline."""
        return self._journal.answered

    @property
    def billed_usd(self) -> Decimal:
        """List price of all answers with a usage block that were sent to their end, USD.

        Blocked, truncated and text-only answers are in it where their usage block says so; errors, cut
        answers and answers whose peer had left are not. Models without a list price (prices.py) add
        nothing.
        """
        return self._journal.billed

    @property
    def requests(self) -> list[Recorded]:
        """The requests that arrived, oldest first."""
        return self._journal.requests()

    def script(self, *behaviours: str) -> None:
        """The next calls end like this, in order, before the rates rule again: "ok", "error", "rate_limit",
        "block", "text_only", "truncate", "disconnect" or "url" (behaviour.py says what each means). Raises
        ValueError."""
        self._journal.script([Behaviour(behaviour) for behaviour in behaviours])

    def hold(self) -> None:
        """From now on generation calls are counted when they arrive and then wait for release()."""
        if self._gate.is_set():
            self._gate = threading.Event()

    def release(self) -> None:
        """Let all held calls go on, and the following ones pass."""
        self._gate.set()

    def wait_for_calls(self, number: int, timeout: float = 10.0) -> None:
        """Block until ``calls`` is at least number. Raises TimeoutError after timeout seconds."""
        self._journal.wait_for_calls(number, timeout)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Knows its connections, so that stopping ends them and their threads."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], simulator: Simulator) -> None:
        self.simulator = simulator
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the port and all connections and wait for their threads, at most 5 s each."""
        # Shut down, not only closed: a forked child that inherited a socket must not keep it alive.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()
        with self._lock:
            rest = list(self._open.items())
            for connection, _ in rest:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for _, thread in rest:
            thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away is daily business here; anything else is a fault of the simulator.
        if not isinstance(sys.exception(), OSError):
            _log.error("the simulator failed to answer", exc_info=True)


class _Gone(Exception):
    """The peer has left, or the simulator stops: there is nobody to answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def _serve(self) -> None:
        try:
            body = self._body()
            if body is None:
                return
            simulator = self.server.simulator
            simulator._journal.record(Recorded(self.command, self.path, tuple(self.headers.items()), body))
            self._send(self._answer(simulator, body))
        except (_Gone, ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self, simulator: Simulator, body: bytes) -> Reply:
        # Asked as a proxy, it is given the whole address.
        url = simulator.url + self.path if self.path.startswith("/") else self.path
        # A provider decodes what a cache must not guess at.
        found = (dialects.recognise(url) or dialects.recognise(unquote(url))) if self.command == "POST" else None
        if found is not None and found[0] in _FORMATS:
            kind = self.headers.get("Content-Type", "")
            return _FORMATS[found[0]](found[1], kind, body, self._called(simulator))
        return self._other(simulator)

    def _called(self, simulator: Simulator) -> Call:
        """Count the call, then wait as long as it is held and takes."""
        call = simulator._journal.arrive(simulator.url)
        gate = simulator._gate
        while not gate.wait(_PEEK_SECONDS):
            self._check_peer()
        if call.latency and simulator._stopping.wait(call.latency):
            raise _Gone
        self._check_peer()
        return call

    def _check_peer(self) -> None:
        if self.server.simulator._stopping.is_set():
            raise _Gone
        self.connection.setblocking(False)
        try:
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                raise _Gone
        except BlockingIOError:
            pass  # silent, hence waiting
        finally:
            self.connection.setblocking(True)

    def _other(self, simulator: Simulator) -> Reply:
        """What is no generation call: the list of models, a file, or 404."""
        path = self.path.partition("?")[0]
        json_type = (("Content-Type", "application/json"),)
        if self.command == "GET":
            if path.rstrip("/").endswith("/models"):
                google = "/v1beta" in path or "x-goog-api-key" in self.headers
                listed = gemini.models() if google else openai_images.models()
                return Reply(200, json_type, (json.dumps(listed, indent=2).encode(),))
            picture = simulator._files.get(path.removeprefix("/files/"))
            if picture is not None:
                return Reply(200, (("Content-Type", picture.mime),), (picture.data,))
        error = {
            "message": f"Invalid URL ({self.command} {path})",
            "type": "invalid_request_error",
            "param": None,
            "code": 404,
        }
        return Reply(404, json_type, (json.dumps({"error": error}, indent=2).encode(),))

    def _body(self) -> bytes | None:
        """The request body with its transfer coding undone; None when it was refused."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunked_body()
        length = self.headers.get("Content-Length", "0").strip()
        if not (length.isascii() and length.isdigit()):
            self.send_error(400, "Bad Content-Length")
            self.close_connection = True
            return None
        if int(length) > LARGEST_BODY:
            self.send_error(413)
            self.close_connection = True
            return None
        return self._exactly(int(length))

    def _chunked_body(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            line = self.rfile.readline(1024)
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise _Gone from None
            if size == 0:
                while self.rfile.readline(65_536).strip():
                    pass  # trailers
                return b"".join(pieces)
            pieces.append(self._exactly(size))
            self._exactly(2)

    def _exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise _Gone
        return data

    def _send(self, reply: Reply) -> None:
        simulator = self.server.simulator
        for name, picture in reply.files:
            simulator._files[name] = picture
            while len(simulator._files) > _KEPT_FILES:
                simulator._files.popitem(last=False)
        chunks = reply.chunks
        self.send_response_only(reply.status)
        self.send_header("Date", formatdate(usegmt=True))
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.streamed:
            self.send_header("Transfer-Encoding", "chunked")
            chunks = tuple(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
            chunks += (b"0\r\n\r\n",)
        else:
            body = chunks[0]
            if simulator._compress and "gzip" in self.headers.get("Accept-Encoding", ""):
                body = gzip.compress(body, 1, mtime=0)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            chunks = (body[:-1], body[-1:])
        self.end_headers()
        if reply.cut:
            whole = b"".join(chunks)
            self.connection.sendall(whole[: len(whole) // 2])
            raise _Gone
        for chunk in chunks[:-1]:
            self.connection.sendall(chunk)
        # Booked before the last bytes leave, so that a client that has read them finds itself in the counts.
        simulator._journal.book(good=reply.good, billed=reply.billed)
        try:
            self.connection.sendall(chunks[-1])
        except OSError:
            simulator._journal.unbook(good=reply.good, billed=reply.billed)
            raise
