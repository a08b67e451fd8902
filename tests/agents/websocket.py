"""The server's side of a WebSocket (RFC 6455), as much of it as a model needs that talks to one client at a time."""

from __future__ import annotations

import base64
import hashlib
import struct
from http.server import BaseHTTPRequestHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Closed(Exception):
    """The other side has closed, orderly or not, or sends what is no WebSocket."""


class WebSocket:
    """A connection after its handshake."""

    def __init__(self, handler: BaseHTTPRequestHandler):
        self._read, self._write = handler.rfile, handler.wfile

    @classmethod
    def accept(cls, handler: BaseHTTPRequestHandler) -> WebSocket:
        """Answers the handshake; no extension is taken up, so frames are never compressed."""
        key = handler.headers.get("sec-websocket-key", "")
        handler.send_response(101)
        handler.send_header("upgrade", "websocket")
        handler.send_header("connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        handler.send_header("sec-websocket-accept", accept)
        handler.end_headers()
        return cls(handler)

    def receive(self) -> str:
        """The next message, put together of its frames; pings are answered on the way."""
        message = b""
        while True:
            final, opcode, payload = self._frame()
            if opcode == _CLOSE:
                self._send(_CLOSE, payload[:2])
                raise Closed
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode != _PONG:
                message += payload
                if len(message) > _MAX_MESSAGE_BYTES:
                    raise Closed
                if final:
                    return message.decode(errors="replace")

    def send(self, text: str) -> None:
        self._send(_TEXT, text.encode())

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        if length > _MAX_MESSAGE_BYTES:
            raise Closed
        mask = self._exactly(4) if second & 0x80 else bytes(4)
        payload = self._exactly(length)
        # As one number, since byte by byte takes long for the prompts of agents.
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return bool(first & 0x80), first & 0x0F, (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")

    def _exactly(self, count: int) -> bytes:
        try:
            data = self._read.read(count)
        except OSError as error:
            raise Closed from error
        if len(data) < count:
            raise Closed
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = struct.pack("BB", 0x80 | opcode, length)
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
        try:
            self._write.write(head + payload)
        except OSError as error:
            raise Closed from error
