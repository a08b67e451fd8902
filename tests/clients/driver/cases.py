"""The cases: what the provider answers, and what the client calls.

A case is one or more steps against the same provider and the same Spillway, without a restart between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from driver.words import (
    TEXT,
    Reply,
    behave,
    chat_events,
    healthy,
    json_body,
    page,
    refusal,
)

# The calls of each API that are made whole and as a stream.
TALKS = {
    "openai": [("chat", False), ("chat_stream", True), ("responses", False), ("responses_stream", True)],
    "anthropic": [("messages", False), ("messages_stream", True), ("messages_helper", True)],
    "gemini": [("generate", False), ("generate_stream", True)],
}

# Where each API begins, as the clients call it.
BASE_PATHS = {"openai": "/openai/v1/", "anthropic": "/anthropic/v1/", "gemini": "/gemini/v1beta/"}

# A client's own timeout where the provider hangs, in seconds.
CLIENT_TIMEOUT_S = 2.0

# The longest that one step may take. A client that waits longer waits for ever, as far as this is concerned.
STEP_DEADLINE_S = 30.0

# Where a client obeys a provider that asks it to wait for an hour, it is left after this.
PATIENCE_S = 6.0


@dataclass(frozen=True)
class Step:
    """One call of a client, and what the provider answers from then on."""

    call: str
    replies: list[Reply] = field(default_factory=list)
    then: Reply = field(default_factory=lambda: healthy())
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "mock-small"
    api_key: str = "sk-test"
    prompt: str = "Hello?"
    deadline_s: float = STEP_DEADLINE_S

    @property
    def is_good(self) -> bool:
        """Whether the provider answers well from the beginning."""
        return not self.replies and self.then == healthy()

    def script(self) -> dict[str, Any]:
        return {"replies": self.replies, "then": self.then}


@dataclass(frozen=True)
class Case:
    """One case."""

    name: str
    dialect: str
    steps: tuple[Step, ...]
    # What a good answer says; with it, an answer that only one side gets is known to be good.
    good_text: str | None = TEXT
    # The provider's answer is not whole, which a client may or may not notice.
    truncated: bool = False
    # It belongs to the short form.
    short: bool = False


def talks() -> Iterator[Case]:
    for dialect, calls in TALKS.items():
        for call, streamed in calls:
            yield from well(dialect, call, streamed)
            yield from refused(dialect, call)
            yield from odd(dialect, call, streamed)
            yield from lost(dialect, call, streamed)
            yield from rescued(dialect, call)
            yield from sequences(dialect, call)
            if streamed:
                yield from streams(dialect, call)


def one(dialect: str, call: str, name: str, reply: Reply | None = None, *, short: bool = False,
        good_text: str | None = TEXT, truncated: bool = False, **step: Any) -> Case:  # fmt: skip
    """A case of one call. `reply` is what the provider always answers."""
    steps = (Step(call, then=reply if reply is not None else healthy(), **step),)
    return Case(f"{dialect}/{call}/{name}", dialect, steps, good_text, truncated, short and is_short(call, name))


def is_short(call: str, name: str) -> bool:
    """Whether the short form has such cases of this call: of similar calls it has those of one, and the good ones."""
    return call not in ("responses", "responses_stream", "messages_helper") or name in ("good", "tools")


def well(dialect: str, call: str, streamed: bool) -> Iterator[Case]:
    yield one(dialect, call, "good", short=True)
    yield one(dialect, call, "tools", healthy(tools=True), options={"tools": True}, good_text=None, short=True)
    if not call.startswith("responses") and dialect != "anthropic":
        yield one(dialect, call, "n=2", options={"n": 2})
    yield one(dialect, call, "image", options={"image": True})
    yield one(dialect, call, "usage", healthy(usage=[1234, 56]))
    yield one(dialect, call, "gzip", healthy(gzip=True), short=True)
    yield one(dialect, call, "late", healthy(delay_ms=1500))
    words = " ".join(["x" * 9_999] * 500)
    yield one(dialect, call, "5 MB", healthy(text=words), good_text=words)
    letters = 'Grüße, 世界 \U0001f30d \u2028 "quoted" \\ end'
    yield one(dialect, call, "letters", healthy(text=letters), good_text=letters)
    if streamed:
        yield one(dialect, call, "slow", healthy(pause_ms=150))


def refused(dialect: str, call: str) -> Iterator[Case]:
    for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529):
        short = status in (400, 401, 404, 429, 500)
        yield one(dialect, call, f"{status}", refusal(dialect, status), short=short)
    for status in (429, 500, 503):
        yield one(
            dialect, call, f"{status} no retries", refusal(dialect, status), options={"max_retries": 0}, short=True
        )
    yield one(dialect, call, "429 retry-after 1", refusal(dialect, 429, {"retry-after": "1"}))
    yield one(dialect, call, "429 retry-after-ms 300", refusal(dialect, 429, {"retry-after-ms": "300"}), short=True)
    yield one(dialect, call, "429 x-should-retry false", refusal(dialect, 429, {"x-should-retry": "false"}))
    yield one(
        dialect, call, "429 retry-after 3600", refusal(dialect, 429, {"retry-after": "3600"}), deadline_s=PATIENCE_S
    )
    yield one(dialect, call, "503 retry-after 1", refusal(dialect, 503, {"retry-after": "1"}))
    yield one(dialect, call, "spent quota", behave("spent-quota"), short=True)
    yield one(dialect, call, "overload", behave("overload"))
    for status in (403, 404, 429, 500, 502, 503, 520, 522, 524, 529):
        yield one(dialect, call, f"{status} html", page(status), short=status == 502)
    for status in (401, 429, 500, 503):
        yield one(dialect, call, f"{status} empty", {"status": status})
    for status in (400, 500):
        yield one(dialect, call, f"{status} no envelope", json_body({"detail": "Something."}, status))


def odd(dialect: str, call: str, streamed: bool) -> Iterator[Case]:
    """Answers whose status says that they are good."""
    yield one(dialect, call, "200 html", page(200))
    yield one(dialect, call, "200 empty", {"status": 200, "headers": {"content-type": "application/json"}})
    yield one(dialect, call, "200 error", behave("error-in-200"))
    if not streamed:
        cut_off = '{"id": "x", "choices": [{"mess'
        reply = {"status": 200, "headers": {"content-type": "application/json"}, "body": cut_off}
        yield one(dialect, call, "200 half a JSON", reply, truncated=True)
    yield one(dialect, call, "202 job", json_body({"id": "job_1", "status": "queued"}, 202))
    yield one(dialect, call, "once 200 html", replies=[page(200)])
    yield one(dialect, call, "once 200 empty", replies=[{"status": 200}])
    for status in (307, 308):
        location = {"location": BASE_PATHS[dialect] + path_of(dialect, call)}
        yield one(dialect, call, f"redirect {status}", replies=[{"status": status, "headers": location}])


def path_of(dialect: str, call: str) -> str:
    if dialect == "openai":
        return "chat/completions" if call.startswith("chat") else "responses"
    if dialect == "anthropic":
        return "messages"
    return "models/mock-small:" + ("streamGenerateContent?alt=sse" if call.endswith("stream") else "generateContent")


def lost(dialect: str, call: str, streamed: bool) -> Iterator[Case]:
    """Connections that end, or on which nothing comes."""
    no_retries = {"max_retries": 0}
    hangs = {"timeout_s": CLIENT_TIMEOUT_S}
    for before in ("close", "reset"):
        yield one(dialect, call, f"{before} before head", {"before_head": before}, short=before == "close")
        yield one(dialect, call, f"{before} before head, no retries", {"before_head": before}, options=no_retries)
        yield one(
            dialect, call, f"once {before} before head", replies=[{"before_head": before}], short=before == "close"
        )
        yield one(
            dialect,
            call,
            f"once {before} before head, no retries",
            replies=[{"before_head": before}],
            options=no_retries,
        )
    yield one(dialect, call, "hang", {"before_head": "hang"}, options=hangs)
    yield one(dialect, call, "hang, no retries", {"before_head": "hang"}, options={**hangs, **no_retries}, short=True)
    yield one(dialect, call, "once hang", replies=[{"before_head": "hang"}], options=hangs)
    for end in ("cut", "reset"):
        yield one(dialect, call, f"{end} after head", healthy(after_events=0, end=end), truncated=True)
        yield one(dialect, call, f"once {end} after head", replies=[healthy(after_events=0, end=end)])
        if not streamed:
            yield one(dialect, call, f"{end} half way", healthy(end=end), truncated=True)
    if not streamed:
        yield one(dialect, call, "stall half way", healthy(end="stall"), options={**hangs, **no_retries})


def rescued(dialect: str, call: str) -> Iterator[Case]:
    failures: dict[str, Reply] = {
        "429 retry-after-ms 300": refusal(dialect, 429, {"retry-after-ms": "300"}),
        "429": refusal(dialect, 429),
        "429 retry-after 1": refusal(dialect, 429, {"retry-after": "1"}),
        "408": refusal(dialect, 408),
        "409": refusal(dialect, 409),
        "500": refusal(dialect, 500),
        "502 html": page(502),
        "503": refusal(dialect, 503),
        "529": refusal(dialect, 529),
        "close": {"before_head": "close"},
        "reset": {"before_head": "reset"},
    }
    for name, failure in failures.items():
        short = name in ("429 retry-after-ms 300", "500", "close")
        yield one(dialect, call, f"twice {name}", replies=[failure] * 2, short=short)
        options = {"max_retries": 0}
        yield one(dialect, call, f"once {name}, no retries", replies=[failure], options=options, short=name == "500")


def streams(dialect: str, call: str) -> Iterator[Case]:
    no_retries = {"max_retries": 0}
    for end in ("cut", "reset", "close"):
        for after, when in ((1, "at the beginning"), (4, "early"), (6, "late")):
            yield one(dialect, call, f"{end} {when}", healthy(after_events=after, end=end), truncated=True,
                      short=end != "reset" and after == 4)  # fmt: skip
    for after in (7, 8, 11):
        yield one(
            dialect, call, f"closed after {after} events", healthy(after_events=after, end="close"), truncated=True
        )
    yield one(dialect, call, "stall at the beginning", healthy(after_events=1, end="stall"),
              options={"timeout_s": CLIENT_TIMEOUT_S, **no_retries}, truncated=True)  # fmt: skip
    yield one(dialect, call, "stall", healthy(after_events=5, end="stall"),
              options={"timeout_s": CLIENT_TIMEOUT_S, **no_retries}, truncated=True)  # fmt: skip
    yield one(dialect, call, "error event first, no retries", behave("error-in-200"), options=no_retries)
    yield one(dialect, call, "once error event first", replies=[behave("error-in-200")])
    yield one(
        dialect, call, "error event after content", healthy(after_events=5, end="error"), truncated=True, short=True
    )
    yield one(dialect, call, "cancelled", healthy(pause_ms=300), options={"cancel_after_events": 3}, good_text=None)
    yield one(dialect, call, "cancelled at once", options={"cancel_after_events": 1}, good_text=None)
    if call == "chat_stream":
        for comments in (False, True):
            name = "comments" if comments else "other fields"
            yield one(dialect, call, name, {"events": chat_events(comments), "pause_ms": 20})
        yield one(dialect, call, "no [DONE]", {"events": chat_events(False)[:-1]})
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "mock-small", "choices": [message]}
        yield one(dialect, call, "JSON for a stream", json_body(whole))


def sequences(dialect: str, call: str) -> Iterator[Case]:
    """Several calls in a row, to the same Spillway: what failed before must not be felt where all is well again."""

    def sequence(name: str, *steps: Step, short: bool = False) -> Case:
        name = f"sequence: {name}"
        return Case(f"{dialect}/{call}/{name}", dialect, steps, short=short and is_short(call, name))

    no_retries = {"max_retries": 0}
    good = Step(call)

    def bad(reply: Reply, **more: Any) -> Step:
        return Step(call, then=reply, **{"options": no_retries, **more})

    short_pause = refusal(dialect, 429, {"retry-after-ms": "300"})
    yield sequence("good after three 429s", *[bad(refusal(dialect, 429))] * 3, good, good, short=True)
    yield sequence("good after three 429s with a short pause", *[bad(short_pause)] * 3, good)
    yield sequence("good after three 500s", *[bad(refusal(dialect, 500))] * 3, good, good, short=True)
    yield sequence("good after ten 500s", *[bad(refusal(dialect, 500))] * 10, good)
    yield sequence("good after a 503", bad(refusal(dialect, 503)), good)
    yield sequence("good after a closed connection", bad({"before_head": "close"}), good)
    yield sequence(
        "good after hangs", *[bad({"before_head": "hang"}, options={**no_retries, "timeout_s": 1.0})] * 2, good
    )
    yield sequence("another model after 429s", *[bad(refusal(dialect, 429))] * 3, Step(call, model="mock-large"))
    yield sequence("another model after 500s", *[bad(refusal(dialect, 500))] * 3, Step(call, model="mock-large"))
    yield sequence("another model after 404", bad(refusal(dialect, 404), model="gone"), good)
    yield sequence("another key after 401", *[bad(refusal(dialect, 401), api_key="sk-wrong")] * 3, good)
    yield sequence("another key after spent quota", *[bad(behave("spent-quota"), api_key="sk-spent")] * 3, good)
    yield sequence("good after spent quota", bad(behave("spent-quota")), good)
    yield sequence("good after good", good, good)
