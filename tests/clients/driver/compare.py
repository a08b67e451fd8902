"""How a run through Spillway compares with a direct one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from driver.cases import Case
from driver.client import ENDED, STILL_WAITING
from driver.meant import reason_for

# How much longer a call may take through Spillway than directly: this part of it, or this many seconds if that is more.
SLOWER_PART = 0.10
SLOWER_S = 0.25

# What may become of a case.
VERDICTS = ("same", "meant", "better", "different")

# Why a difference stands that an application is glad of.
BETTER = "better"

# What applications see of an answer.
SEEN = ("text", "texts", "usage", "tool_calls", "finish", "events", "extra")
ERROR = ("class", "status", "code", "type", "message")

# What stands for one run only: ports, the mock's numbers of requests, addresses in memory, and times.
_ACCIDENTAL = [
    (re.compile(r"(127\.0\.0\.1|localhost):\d+"), "HOST"),
    (re.compile(r"mock\d{6}"), "mock#"),
    (re.compile(r"0x[0-9a-f]{6,}"), "0x#"),
    (re.compile(r'"created(_at)?": \d{10}'), '"created": #'),
]


@dataclass
class StepRun:
    """What one call gave."""

    answer: dict[str, Any]
    # What reached the provider because of it.
    requests: list[dict[str, Any]]
    # Where the application leaves: answers that the provider saw given up.
    left: int | None = None

    @property
    def error(self) -> dict[str, Any]:
        return self.answer.get("error") or {}

    @property
    def calls(self) -> int:
        return len(self.requests)

    @property
    def seconds(self) -> float:
        return float(self.answer.get("seconds", 0.0))


@dataclass
class Difference:
    """One thing that is otherwise through Spillway."""

    step: int
    field: str
    direct: Any
    through: Any
    reason: str | None = None


@dataclass
class Outcome:
    """What became of a case."""

    case: Case
    # One of VERDICTS.
    verdict: str
    differences: list[Difference] = field(default_factory=list)
    direct: list[StepRun] = field(default_factory=list)
    through: list[StepRun] = field(default_factory=list)

    @property
    def is_late(self) -> bool:
        """Only its time makes it different, which a second look may not confirm."""
        unexplained = [one for one in self.differences if one.reason is None]
        return self.verdict == "different" and all(one.field == "seconds" for one in unexplained)


def judged(client: str, case: Case, direct: list[StepRun], through: list[StepRun]) -> Outcome:
    """The verdict about a case, from both its runs."""
    differences: list[Difference] = []
    better = meant = False
    for number, (one, other) in enumerate(zip(direct, through, strict=True)):
        found = differences_of(number, one, other)
        if has_ceased(one) or other.error.get("class") == ENDED:
            differences.append(Difference(number, "client", one.error.get("message"), other.error.get("message")))
            continue
        if not found:
            continue
        if is_better(case, one, other):
            better = True
            for difference in found:
                difference.reason = BETTER
        else:
            for difference in found:
                difference.reason = reason_for(
                    client, case, number, difference.field, difference.direct, difference.through
                )
                meant = meant or difference.reason is not None
        differences += found
    if any(difference.reason is None for difference in differences):
        verdict = "different"
    else:
        verdict = "meant" if meant else "better" if better else "same"
    return Outcome(case, verdict, differences, direct, through)


def has_ceased(run: StepRun) -> bool:
    """Whether a client that calls the provider itself does so no more: its process has ended, or waits for itself."""
    kind = run.error.get("class")
    return kind == ENDED or kind == STILL_WAITING and run.calls == 0


def differences_of(step: int, direct: StepRun, through: StepRun) -> list[Difference]:
    found = [
        Difference(step, name, plain(direct.answer.get(name)), plain(through.answer.get(name)))
        for name in SEEN
        if plain(direct.answer.get(name)) != plain(through.answer.get(name))
    ]
    for name in ERROR:
        one, other = plain(direct.error.get(name)), plain(through.error.get(name))
        if one != other:
            found.append(Difference(step, f"error.{name}", one, other))
    # Who leaves at once may be gone before the provider is asked, or a moment later.
    if direct.left is None or direct.calls > 0:
        if through.left != direct.left:
            found.append(Difference(step, "left", direct.left, through.left))
        if through.calls > direct.calls:
            found.append(Difference(step, "calls", direct.calls, through.calls))
    sent, arrived = asked(direct), asked(through)
    if sent and arrived and sent != arrived:
        found.append(Difference(step, "request", sent, arrived))
    if through.seconds > direct.seconds + max(direct.seconds * SLOWER_PART, SLOWER_S):
        found.append(Difference(step, "seconds", round(direct.seconds, 2), round(through.seconds, 2)))
    return found


def asked(run: StepRun) -> dict[str, Any] | None:
    """What reached the provider first, as far as it is the same for each run."""
    if not run.requests:
        return None
    return {name: run.requests[0][name] for name in ("method", "path", "query", "bytes", "key")}


def is_better(case: Case, direct: StepRun, through: StepRun) -> bool:
    """Whether an application is better off: it gets the whole answer, or hears that it is not whole."""
    if not through.error:
        failed = bool(direct.error)
        lost = case.good_text is not None and direct.answer.get("text") != case.good_text
        if case.good_text is not None:
            return (failed or lost) and through.answer.get("text") == case.good_text
        return failed and any(through.answer.get(name) for name in ("text", "tool_calls", "extra", "usage"))
    return case.truncated and not direct.error


def plain(value: Any) -> Any:
    """Without what stands for one run only."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    for pattern, instead in _ACCIDENTAL:
        text = pattern.sub(instead, text)
    return text
