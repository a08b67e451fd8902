"""The one table of differences that are meant, each with its reason."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driver.cases import Case


def always(_direct: Any, _through: Any) -> bool:
    return True


def more_by(count: float) -> Callable[[Any, Any], bool]:
    """It is a number that has grown by this at most."""
    return lambda direct, through: (through or 0) - (direct or 0) <= count


@dataclass(frozen=True)
class Meant:
    """A difference that stands."""

    # Said to users.
    reason: str
    # Patterns of a shell, of cases' names.
    cases: tuple[str, ...]
    # What may differ; `error.*` is all of an error.
    fields: tuple[str, ...]
    # Whose it is: patterns of clients' names and dialects.
    clients: tuple[str, ...] = ("*",)
    # What stands there through Spillway contains this.
    through: str = ""
    # Whether it may be where the provider answers well from the beginning.
    of_good_calls: bool = False
    # How much may differ.
    holds: Callable[[Any, Any], bool] = always


# Cases in which calls fail that may be repeated.
FAILING = (
    "*/408*",
    "*/409*",
    "*/5[0-9][0-9]*",
    "*before head*",
    "*/twice close",
    "*/twice reset",
    "*after head",
    "*/200 *",
    "*at the beginning",
    "*sequence: *",
)

# Cases in which the provider says that it is too much.
TOO_MUCH = ("*/429*", "*/503*", "*/529*", "*/overload", "*/200 error", "*error event first*", "*/sequence: *")

# Clients that do not repeat by themselves, or do not say of a request that they do.
NOT_REPEATING = ("* gemini", "litellm anthropic")

TABLE: tuple[Meant, ...] = (
    Meant(
        "A failure is repeated once, at once, before the caller hears of it. Where it lasts, the provider is called "
        "once more than without Spillway.",
        FAILING,
        ("calls",),
        holds=more_by(1),
    ),
    Meant(
        "Callers that do not repeat by themselves have it done for them: up to four times, within a second, for as "
        "long as what fails may be chance.",
        FAILING,
        ("calls",),
        clients=NOT_REPEATING,
        holds=more_by(4),
    ),
    Meant(
        "Callers that do not repeat by themselves have it done for them: the waits between these repetitions.",
        FAILING,
        ("seconds",),
        clients=NOT_REPEATING,
        holds=more_by(1.0),
    ),
    Meant(
        "Callers that do not repeat by themselves have it done for them: where the provider says that it is too much, "
        "they wait for up to four turns of a second, or as long as the provider asks for.",
        TOO_MUCH,
        ("calls", "seconds"),
        clients=NOT_REPEATING,
        holds=more_by(5.5),
    ),
    Meant(
        "A pause that the provider names with a refusal is waited for here, up to three times, before the caller hears "
        "of it; it would have waited and called as well.",
        ("*retry-after*", "*with a short pause"),
        ("calls",),
        holds=more_by(3),
    ),
    Meant(
        "A pause that the provider names with a refusal is waited for here: the time of that.",
        ("*retry-after*", "*with a short pause"),
        ("seconds",),
        holds=more_by(4.0),
    ),
    Meant(
        "Who comes again before a pause is over that the provider has named, or with a key whose quota is spent, is "
        "told so in Spillway's words, without a call.",
        ("*/429 retry-after 3600", "*/spent quota"),
        ("error.message",),
        through="Spillway did not call",
    ),
    Meant(
        "Right after a refusal for too much, the next call waits for a part of a second.",
        ("*sequence: good after three 429s*", "*sequence: good after a 503"),
        ("seconds",),
        of_good_calls=True,
        holds=more_by(1.0),
    ),
    Meant(
        "A stream that breaks is told in the API's words, with a code and what to do, and then broken off; directly "
        "there is only the broken connection.",
        ("*/cut *", "*/reset *", "*_helper/close *", "*_helper/closed *"),
        ("error.*",),
    ),
    Meant(
        "A stream that breaks is told in the API's words: some libraries hand that on as an event of its own.",
        ("*/cut *", "*/reset *"),
        ("events",),
        holds=more_by(2),
    ),
    Meant(
        "A connection that the provider resets is closed.",
        ("*/reset *", "*/once reset *", "*/twice reset"),
        ("error.class", "error.message"),
    ),
    Meant(
        "An answer that is not whole is held for a second at most, in case it fails; a client's timeout between two "
        "reads begins after that.",
        ("*/stall half way", "*/stall at the beginning"),
        ("seconds",),
        holds=more_by(1.3),
    ),
    Meant(
        "A key whose quota is spent is not used again for a while: the provider is not asked, and the refusal has the "
        "provider's class, status, code and type, in Spillway's words.",
        ("*/sequence: another key after spent quota", "*/sequence: good after spent quota"),
        ("error.*", "text", "usage", "finish", "events", "extra"),
        of_good_calls=True,
    ),
    Meant(
        "A key whose quota is spent is not used again for a while: callers that take no word for final, and wait as "
        "long as they are told to, wait for that.",
        ("*/spent quota", "*/sequence: another key after spent quota", "*/sequence: good after spent quota"),
        ("seconds",),
        clients=("vercel *", "langchain-node *", "langchain-python gemini"),
        of_good_calls=True,
        holds=more_by(11.0),
    ),
    Meant(
        "LangChain for Node repeats a call to Gemini that is overloaded without a word of it: each of its calls is "
        "taken for one of a caller that does not repeat by itself, and has up to four turns of a second.",
        ("gemini/generate*/529*", "gemini/generate*/overload"),
        ("calls", "seconds"),
        clients=("langchain-node *",),
        holds=more_by(12.0),
    ),
    Meant(
        "The beginning of a stream is held for a second at most, until it says something: what stands before its first "
        "word comes with that.",
        ("anthropic/messages_stream/cancelled",),
        ("seconds",),
        clients=("vercel *",),
        holds=more_by(1.0),
    ),
    Meant(
        "What is no answer is repeated before instructor has the model look at it, so that less is used.",
        ("*/structured/once 200 html",),
        ("usage",),
        clients=("instructor *",),
    ),
    Meant(
        "LangChain's embeddings for Gemini take a failure for empty vectors; through Spillway they are served.",
        ("gemini/embeddings/twice *", "gemini/embeddings/once *"),
        ("extra",),
        clients=("langchain-node *",),
        through="0.5, 0.25",
    ),
    Meant(
        "LangChain's embeddings for Gemini take a failure for empty vectors; the calls with which they were served, "
        "and the time of these.",
        ("gemini/embeddings/twice *", "gemini/embeddings/once *"),
        ("calls", "seconds"),
        clients=("langchain-node *",),
        holds=more_by(2),
    ),
)


def reason_for(client: str, case: Case, step: int, field: str, direct: Any, through: Any) -> str | None:
    """Why this difference is meant; `None` if it is not."""
    is_good = case.steps[step].is_good
    shown = json.dumps(through, ensure_ascii=False)

    def any_of(patterns: tuple[str, ...], name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    for entry in TABLE:
        if (
            any_of(entry.clients, f"{client} {case.dialect}")
            and any_of(entry.cases, case.name)
            and any_of(entry.fields, field)
            and entry.through in shown
            and (entry.of_good_calls or not is_good)
            and entry.holds(direct, through)
        ):
            return entry.reason
    return None
