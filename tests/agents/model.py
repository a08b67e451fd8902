"""A provider with one model that can do one task with tools (answers.py), and that fails in scripted ways (script.py).

It speaks Anthropic's messages, and OpenAI's chat completions and responses, the latter over WebSockets too. By hand:
`python3 tests/agents/model.py --port 9200 --situation 429s`.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any

from handler import Handler, reset
from script import OUTAGE_S, SITUATIONS, Script

_POLL_S = 0.2


class Model:
    """A server on a port of the loopback's."""

    def __init__(self, port: int = 0):
        self.port = port
        self.script = Script()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._server = self._listen()

    def close(self) -> None:
        self._closed.set()
        self._stop_listening()

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def go_down(self) -> None:
        """Nobody listens for a while: connections are reset, and new ones refused."""

        def be_away() -> None:
            self._stop_listening()
            # A socket that is bound and does not listen refuses, and keeps the port from everybody else.
            with socket.socket() as reserved:
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reserved.bind(("127.0.0.1", self.port))
                if not self._closed.wait(OUTAGE_S):
                    self._server = self._listen()

        threading.Thread(target=be_away, daemon=True).start()

    def _listen(self) -> ThreadingHTTPServer:
        bound = type("Bound", (Handler,), {"model": self})

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                # Clients leave, and connections are cut on purpose.
                pass

        server = Server(("127.0.0.1", self.port), bound)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _stop_listening(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                reset(connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--situation", choices=list(SITUATIONS), default="good")
    options = parser.parse_args()
    model = Model(options.port)
    model.script.begin(options.situation)
    print(f"listening on http://127.0.0.1:{model.port}", flush=True)
    shown = 0
    while True:
        time.sleep(_POLL_S)
        for call in model.script.calls[shown:]:
            print(call.over, call.method, call.path, "main" if call.main else "aside", call.answered, flush=True)
            shown += 1


if __name__ == "__main__":
    main()
