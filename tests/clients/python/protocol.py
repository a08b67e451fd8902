"""What every Python client of the suite speaks: one JSON object per line in, one per line out."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# How long calls may go on after the end of the input.
LAST_CALLS_S = 60.0

# The tool that is offered where a case wants tools.
TOOL_NAME = "get_weather"
TOOL_DESCRIPTION = "The weather of a city."
TOOL_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

# One red pixel.
PNG_BASE64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


@dataclass
class Request:
    """One call to make."""

    id: int
    dialect: str
    base_url: str
    api_key: str
    call: str
    model: str
    prompt: str
    options: dict[str, Any]

    def option(self, name: str) -> Any:
        return self.options.get(name)


@dataclass
class Seen:
    """What a call has given so far. It stays when the call fails."""

    texts: dict[int, str] = field(default_factory=dict)
    usage: dict[str, int | None] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish: str | None = None
    events: int | None = None
    extra: dict[str, Any] | None = None
    started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """The call begins now; what was before is the making of the client."""
        self.started = time.monotonic()

    def say(self, text: str | None, choice: int = 0) -> None:
        if text is not None:
            self.texts[choice] = self.texts.get(choice, "") + text

    def event(self) -> int:
        self.events = (self.events or 0) + 1
        return self.events

    def use(self, input_tokens: Any, output_tokens: Any) -> None:
        self.usage = {"input": input_tokens, "output": output_tokens}

    def call_tool(self, name: str | None, arguments: Any) -> None:
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                pass
        self.tool_calls = [*(self.tool_calls or []), {"name": name, "arguments": arguments}]

    def note(self, name: str, value: Any) -> None:
        self.extra = {**(self.extra or {}), name: value}

    def answer(self) -> dict[str, Any]:
        texts = [self.texts[choice] for choice in sorted(self.texts)]
        return {
            "text": texts[0] if texts else None,
            "texts": texts if len(texts) > 1 else None,
            "usage": self.usage,
            "tool_calls": self.tool_calls,
            "finish": self.finish,
            "events": self.events,
            "extra": self.extra,
            "error": None,
            "unsupported": False,
            "seconds": time.monotonic() - self.started,
        }


# Makes a call and puts what it gives into `Seen`.
Handler = Callable[[Request, Seen], None]


def serve(handlers: dict[tuple[str, str], Handler]) -> None:
    """Makes the calls that come on standard input, until it ends. The keys are dialect and call."""
    # Libraries that print must not break the protocol.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def make(request: Request) -> None:
        seen = Seen()
        handler = handlers.get((request.dialect, request.call))
        if handler is None:
            answer = {**seen.answer(), "unsupported": True}
        else:
            try:
                handler(request, seen)
                answer = seen.answer()
            except Exception as error:  # Whatever a library raises is what this is about.
                answer = {**seen.answer(), "error": described(error)}
        with lock:
            print(json.dumps({"id": request.id, **answer}, default=str), file=answers, flush=True)

    # A thread for each, since some wait for hours where a provider asks them to. The driver bounds how many there are.
    threads = []
    for line in sys.stdin:
        thread = threading.Thread(target=make, args=(Request(**json.loads(line)),), daemon=True)
        thread.start()
        threads.append(thread)
    end = time.monotonic() + LAST_CALLS_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def described(error: BaseException) -> dict[str, Any]:
    """An exception by what applications look at."""
    kind = type(error)
    status = getattr(error, "status_code", None)
    code = getattr(error, "code", None)
    if status is None and isinstance(code, int):
        status = code
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "status": status if isinstance(status, int) else None,
        "code": plain(code),
        "type": plain(getattr(error, "type", None) or getattr(error, "status", None)),
        "message": str(error),
    }


def plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def left_early(request: Request, count: int) -> bool:
    """Whether the application leaves the stream after so many events."""
    limit = request.option("cancel_after_events")
    return limit is not None and count >= limit
