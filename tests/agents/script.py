"""What befalls the calls of a task, one after the other, and a record of all calls."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

OUTAGE_S = 20

# What befalls the first calls of the task; those after them are served.
SITUATIONS: dict[str, list[str]] = {
    "good": [],
    "429s": ["429", "429"],
    "529s": ["529", "529"],
    "cut": ["cut"],
    "outage": ["outage"],
    "outage-503": ["outage-503"],
}


@dataclass
class Call:
    """A call as the model saw it: without credentials."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    # "http", or "websocket" for its handshake and each question in it.
    over: str = "http"
    # Whether it is one of the task's own: faults befall only those.
    main: bool = False
    # A status, or the word of what befell it.
    answered: str = ""
    body: Any = None


@dataclass
class Script:
    """The faults that are left of a situation."""

    calls: list[Call] = field(default_factory=list)
    _faults: list[str] = field(default_factory=list)
    _down_until: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, situation: str) -> None:
        """Forgets all calls, and begins a situation."""
        with self._lock:
            self._faults = list(SITUATIONS[situation])
            self._down_until = 0
            self.calls = []

    def note(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def fault(self, call: Call) -> str:
        """What befalls this call: a status, "cut", "outage", or "" if it is served."""
        with self._lock:
            if time.monotonic() < self._down_until:
                return "503"
            if not call.main or not self._faults:
                return ""
            fault = self._faults.pop(0)
            if fault == "outage-503":
                self._down_until = time.monotonic() + OUTAGE_S
                return "503"
            return fault
