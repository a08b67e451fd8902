"""The model's side of a connection: it reads what is asked, and writes the answer, or what befalls it."""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import answers
from script import Call
from websocket import Closed, WebSocket

if TYPE_CHECKING:
    from model import Model

Json = Any

RETRY_AFTER_S = 1

# Headers that hold credentials are not noted.
_SECRET = ("authorization", "x-api-key", "x-goog-api-key", "cookie")
_MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """An answer in both forms, and whether it is one of the task's own."""

    main: bool
    whole: Json
    stream: list[bytes]


def reset(connection: socket.socket) -> None:
    """Ends a connection as a process that dies does, seen from the other side."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It is gone already.


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # The server that this belongs to.
    model: Model

    def setup(self) -> None:
        super().setup()
        self.model.opened(self.connection)

    def finish(self) -> None:
        self.model.closed(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        call = self._call()
        if self.headers.get("upgrade", "").lower() == "websocket" and self._path() == "/v1/responses":
            call.over = "websocket"
            self._talk(call)
        elif self._path() == "/v1/models":
            models = [{"id": name, "object": "model", "created": 1, "owned_by": "nobody"} for name in ("one", "two")]
            self._whole(call, 200, {"object": "list", "data": models})
        else:
            self._whole(call, 404, _error(self._path(), 404, "not_found_error", "There is nothing here."))

    def do_HEAD(self) -> None:
        self._whole(self._call(), 200, {})

    def do_POST(self) -> None:
        call = self._call()
        length = min(int(self.headers.get("content-length") or 0), _MAX_BODY_BYTES)
        try:
            body = json.loads(self.rfile.read(length))
            call.body = body
            answer = self._answer(body)
        except (ValueError, KeyError, TypeError) as error:
            return self._whole(call, 400, _error(self._path(), 400, "invalid_request_error", repr(error)))
        if answer is None:
            return self._whole(call, 404, _error(self._path(), 404, "not_found_error", "There is nothing here."))
        call.main = answer.main
        fault = self.model.script.fault(call)
        if fault == "outage":
            call.answered = fault
            return self._go_down()
        if fault.isdigit():
            return self._fail(call, int(fault))
        if not body.get("stream"):
            return self._whole(call, 200, answer.whole)
        return self._stream(call, answer.stream, cut=fault == "cut")

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _call(self) -> Call:
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in _SECRET}
        call = Call(time.monotonic(), self.command, self.path, headers)
        self.model.script.note(call)
        return call

    def _answer(self, body: Json) -> Answer | None:
        """What is answered; None for a path that there is not."""
        model = body.get("model", "")
        path = self._path()
        if path == "/v1/messages":
            turn = answers.read_messages(body)
            named = [_named(name, event) for name, event in answers.messages_events(turn, model)]
            return Answer(turn.main, answers.message(turn, model), named)
        if path == "/v1/messages/count_tokens":
            return Answer(False, {"input_tokens": 100}, [])
        if path == "/v1/chat/completions":
            turn = answers.read_chat(body)
            with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            chunks = [_unnamed(chunk) for chunk in answers.chat_events(turn, model, with_usage)]
            return Answer(turn.main, answers.chat(turn, model), [*chunks, b"data: [DONE]\n\n"])
        if path == "/v1/responses":
            turn, _ = answers.read_responses(body, [])
            events = list(answers.responses_events(turn, model))
            return Answer(turn.main, events[-1]["response"], [_named(event["type"], event) for event in events])
        return None

    def _fail(self, call: Call, status: int) -> None:
        kinds = {429: "rate_limit_error", 503: "service_unavailable_error", 529: "overloaded_error"}
        body = _error(self._path(), status, kinds[status], "Scripted: come again.")
        self._whole(call, status, body, {"retry-after": str(RETRY_AFTER_S)} if status == 429 else {})

    def _whole(self, call: Call, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        call.answered = str(status)
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(content))}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _stream(self, call: Call, events: list[bytes], cut: bool) -> None:
        call.answered = "cut" if cut else "200"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events[: _content_begun(events)] if cut else events:
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        if cut:
            # An orderly end of the connection in the midst of a chunked body, so that all of it arrives before.
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _go_down(self) -> None:
        self.model.go_down()
        self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        reset(self.connection)

    def _talk(self, call: Call) -> None:
        """The responses API over a WebSocket: each message asks, and each event answers."""
        self.close_connection = True
        websocket = WebSocket.accept(self)
        call.answered = "101"
        known: dict[str, list[Json]] = {}
        try:
            while True:
                body = json.loads(websocket.receive())
                frame = Call(time.monotonic(), "FRAME", self.path, {}, "websocket", body=body)
                self.model.script.note(frame)
                turn, items = answers.read_responses(body, known.get(body.get("previous_response_id"), []))
                frame.main = turn.main
                events = list(answers.responses_events(turn, body.get("model", "")))
                fault = self.model.script.fault(frame)
                frame.answered = fault or "200"
                if fault == "outage":
                    return self._go_down()
                if fault.isdigit():
                    error = _error(self._path(), int(fault), "rate_limit_error", "Scripted: come again.")
                    websocket.send(json.dumps({"type": "error", "status": int(fault), **error}))
                    continue
                for event in events[: _content_begun(events)] if fault == "cut" else events:
                    websocket.send(json.dumps(event))
                if fault == "cut":
                    return self._reset()
                known[events[-1]["response"]["id"]] = items + events[-1]["response"]["output"]
        except Closed:
            pass


def _content_begun(events: list) -> int:
    """So many events are sent of a stream that is cut: some of its content, and not its end."""
    return len(events) // 2 + 1


def _named(name: str, event: Json) -> bytes:
    return f"event: {name}\n".encode() + _unnamed(event)


def _unnamed(event: Json) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


def _error(path: str, status: int, kind: str, message: str) -> Json:
    """An error in the envelope of the API that a path belongs to."""
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    code = "rate_limit_exceeded" if status == 429 else None
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
