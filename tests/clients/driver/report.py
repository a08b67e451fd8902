"""What the suite prints."""

from __future__ import annotations

import json
from typing import Any

from driver.compare import BETTER, VERDICTS, Outcome, StepRun
from driver.suite import Result

# An answer of 5 MB is not shown in full.
SHOWN_CHARACTERS = 300


def as_text(results: list[Result]) -> str:
    """Each difference in full, and the counts of each client."""
    lines = []
    for result in results:
        for outcome in result.outcomes:
            if outcome.verdict == "different":
                lines += [f"{result.client.name}  {outcome.case.name}", *differences(outcome), ""]
    lines += table(results)
    return "\n".join(lines) + "\n"


def differences(outcome: Outcome) -> list[str]:
    lines = []
    for one in outcome.differences:
        step = f"step {one.step + 1}, " if len(outcome.case.steps) > 1 else ""
        why = f"   ({one.reason})" if one.reason else ""
        lines += [
            f"  {step}{one.field}{why}",
            f"    direct   {shown(one.direct)}",
            f"    through  {shown(one.through)}",
        ]
    lines.append(f"  calls at the provider: {calls(outcome.direct)} directly, {calls(outcome.through)} through")
    return lines


def calls(runs: list[StepRun]) -> str:
    return "+".join(str(run.calls) for run in runs)


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def table(results: list[Result]) -> list[str]:
    width = max((len(result.client.label) for result in results), default=0)
    lines = [f"{'':{width}}  {'cases':>9}" + "".join(f"{verdict:>11}" for verdict in VERDICTS)]
    for result in results:
        counts = "".join(f"{result.count(verdict):>11}" for verdict in VERDICTS)
        lines.append(f"{result.client.label:{width}}  {len(result.outcomes):>9}{counts}")
    return lines


def as_markdown(results: list[Result]) -> str:
    """The page that docs/ keeps."""
    lines = [PAGE_OPENING]
    lines += ["| Client | Version | Cases | Same | Better | Meant | Different |", "|---|---|--:|--:|--:|--:|--:|"]
    for result in results:
        counts = " | ".join(str(result.count(verdict)) for verdict in ("same", "better", "meant", "different"))
        version = ", ".join(result.client.versions())
        lines.append(f"| {result.client.label} | {version} | {len(result.outcomes)} | {counts} |")
    outcomes = [outcome for result in results for outcome in result.outcomes]
    counts = " | ".join(
        str(sum(outcome.verdict == verdict for outcome in outcomes))
        for verdict in ("same", "better", "meant", "different")
    )
    lines.append(f"| **all** | | {len(outcomes)} | {counts} |")
    lines += ["", "## What is better", "", "| Case | Cases | |", "|---|--:|---|"]
    better = [outcome for outcome in outcomes if outcome.verdict == "better"]
    for told, words in ((False, RESCUED), (True, TOLD)):
        some = [outcome for outcome in better if hears_of_it(outcome) == told]
        if some:
            lines.append(f"| {words[0]} | {len(some)} | {words[1]} |")
    lines += ["", "## What is meant", "", "| Difference | Cases | For example |", "|---|--:|---|"]
    for reason, named in by_reason(outcomes).items():
        lines.append(f"| {reason} | {len(named)} | `{named[0]}` |")
    return "\n".join(lines) + "\n"


PAGE_OPENING = """\
# Real clients, directly and through Spillway

<!-- Written by `cargo xtask clients --markdown > docs/clients-compared.md`. -->

Each case is run twice by the real library: directly against a mock provider, and through a real `spillway run` with \
nothing configured but where the providers are. Compared are text, usage, tool calls, finish reason, number of events, \
the exception's class, status, code, type and message, the request that arrives at the provider, the number of calls \
there, and time (a tenth longer at most, or a quarter of a second). A difference is *meant* only where the table below \
has it; any other makes the run fail.
"""

RESCUED = (
    "a call that fails directly, or loses its answer, is answered in full",
    "repeated before anything was sent on",
)
TOLD = (
    "an answer that is not whole, taken for whole directly, is told",
    "broken off, with an error in the API's words",
)


def hears_of_it(outcome: Outcome) -> bool:
    """Whether it is better because the application hears that an answer is not whole."""
    return any(run.answer.get("error") is not None for run in outcome.through)


def by_reason(outcomes: list[Outcome]) -> dict[str, list[str]]:
    """The cases of each reason in the table of what is meant, in the order of their first."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        for reason in dict.fromkeys(one.reason for one in outcome.differences):
            if reason is not None and reason != BETTER:
                found.setdefault(reason, []).append(outcome.case.name)
    return found


def as_json(results: list[Result]) -> str:
    """Everything, for programs."""

    def of(outcome: Outcome) -> dict[str, Any]:
        return {
            "case": outcome.case.name,
            "verdict": outcome.verdict,
            "calls": {"direct": calls(outcome.direct), "through": calls(outcome.through)},
            "differences": [vars(one) for one in outcome.differences],
        }

    clients = {result.client.name: [of(outcome) for outcome in result.outcomes] for result in results}
    return json.dumps(clients, ensure_ascii=False, indent=1)
