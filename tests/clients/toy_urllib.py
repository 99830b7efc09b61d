"""A toy client, for the standard library's urllib: all that a client has to say for itself (docs/extending.md)."""

from email import message_from_string
from io import BytesIO
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPHandler, Request
from urllib.response import addinfourl

from cachelayer.clients.surface import OURS, Passing, Served, ask, one_more, served_by
from cachelayer.core import model, trip


class CachedHandler(HTTPHandler):
    """`urllib.request.build_opener(CachedHandler())`: what it opens by http, with the cache of `engine` before it."""

    engine: Any

    def http_open(self, req: Request) -> Any:
        match reply := ask(self.engine, lambda: Exchange(self, req)):
            case trip.PassThrough():
                with Passing(self.engine, reply, lambda _: True) as passing:
                    came = self.forward(req, req.timeout)
                passing.book(came.status, came)
                return response(req, Served(came.status, (*came.headers, *passing.headers), came.body))
            case trip.Crashed(error, shared):
                raise one_more(error, lambda other: URLError(str(other))) if shared else error
            case trip.TimedOut():
                raise TimeoutError("timed out")
        return response(req, served_by(reply))

    def forward(self, req: Request, timeout: Any) -> model.Answer:
        headers = {name: value for name, value in req.header_items() if not name.lower().startswith(OURS)}
        copy = Request(req.full_url, req.data, headers, method=req.get_method())
        copy.timeout = timeout
        with super().http_open(copy) as came:
            return model.Answer(came.status, tuple(came.headers.items()), came.read())


class Exchange:
    def __init__(self, handler: CachedHandler, req: Any) -> None:
        self.handler, self.req, self.read_timeout = handler, req, req.timeout
        self.request = model.Request(req.get_method(), req.full_url, req.header_items(), req.data or b"")

    def send(self, progress: Any, finish_timeout: float) -> trip.Received | trip.Failed:
        try:
            progress(False)
            came = self.handler.forward(self.req, max(self.read_timeout, finish_timeout))
            return trip.Received(came.headers, came.body, came)
        except BaseException as error:
            return trip.Failed(error, sent=not isinstance(getattr(error, "reason", None), ConnectionRefusedError))


def response(req: Request, served: Served) -> Any:
    said = message_from_string("".join(f"{name}: {value}\n" for name, value in served.headers))
    made: Any = addinfourl(BytesIO(served.body), said, req.full_url, served.status)
    made.msg = ""  # urllib's error processor asks for it
    return made
