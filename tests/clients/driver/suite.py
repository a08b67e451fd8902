"""Runs the cases: each with each client, directly and through Spillway at the same time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from driver.cases import Case
from driver.client import Client, Running
from driver.compare import VERDICTS, Outcome, StepRun, judged
from driver.processes import place

# Cases under way at once, over all clients. They wait nearly all of their time.
AT_ONCE = 12

# Clients at once: each is a process with its libraries.
CLIENTS_AT_ONCE = 4

# Cases at once that are looked at again, since they were late among all others.
AGAIN_AT_ONCE = 2

# How often a case is looked at again that was only late: the machine may have been busy.
LOOKS_AGAIN = 2


@dataclass(frozen=True)
class Binaries:
    """What is driven, and by what."""

    mock: str
    spillway: str
    # By the name of an environment.
    pythons: dict[str, str]
    node: str | None

    def interpreter(self, client: Client) -> str | None:
        """What runs a client; `None` if it is not there."""
        return self.node if client.language == "node" else self.pythons.get(client.environment or "")


@dataclass
class Result:
    """What became of a client's cases, in the order of the cases."""

    client: Client
    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        return sum(outcome.verdict == verdict for outcome in self.outcomes)


async def run_client(
    client: Client, cases: Iterable[Case], binaries: Binaries, places: asyncio.Semaphore, show_noise: bool
) -> Result:
    """All of a client's cases."""
    interpreter = binaries.interpreter(client)
    assert interpreter is not None
    running = await Running.start(client, interpreter, show_noise)
    again = asyncio.Semaphore(AGAIN_AT_ONCE)
    try:

        async def compared(case: Case) -> Outcome | None:
            async with places:
                return await compare(client, case, running, binaries)

        async def confirmed(outcome: Outcome) -> Outcome:
            async with again:
                return await looked_at_again(client, outcome, running, binaries)

        made = [case for case in cases if client.makes(case)]
        outcomes = [one for one in await asyncio.gather(*map(compared, made)) if one is not None]
        return Result(client, list(await asyncio.gather(*map(confirmed, outcomes))))
    finally:
        await running.stop()


async def compare(client: Client, case: Case, running: Running, binaries: Binaries) -> Outcome | None:
    """One case, directly and through; `None` if the client has no such call."""
    direct, through = await asyncio.gather(
        run_case(case, running, binaries.mock, None), run_case(case, running, binaries.mock, binaries.spillway)
    )
    if any(step.answer.get("unsupported") for step in direct):
        return None
    return judged(client.name, case, direct, through)


async def run_case(case: Case, running: Running, mock_binary: str, spillway_binary: str | None) -> list[StepRun]:
    steps = []
    async with place(mock_binary, spillway_binary) as (mock, url, _spillway):
        for step in case.steps:
            await mock.follow(step.script())
            before = len(await mock.requests())
            answer = await running.call(case, step, url)
            left = await mock.left() if "cancel_after_events" in step.options else None
            steps.append(StepRun(answer, (await mock.requests())[before:], left))
    return steps


async def looked_at_again(client: Client, outcome: Outcome, running: Running, binaries: Binaries) -> Outcome:
    """A case that was only late is late if it always is: pauses of SDKs are random, and the machine may be busy."""
    slowest, quickest = [step.seconds for step in outcome.direct], [step.seconds for step in outcome.through]
    for _ in range(LOOKS_AGAIN):
        if not outcome.is_late:
            break
        again = await compare(client, outcome.case, running, binaries)
        if again is None:
            break
        slowest = [max(known, step.seconds) for known, step in zip(slowest, again.direct, strict=True)]
        quickest = [min(known, step.seconds) for known, step in zip(quickest, again.through, strict=True)]
        for runs, known in ((again.direct, slowest), (again.through, quickest)):
            for step, seconds in zip(runs, known, strict=True):
                step.answer["seconds"] = seconds
        outcome = judged(client.name, outcome.case, again.direct, again.through)
    return outcome


async def run(clients: list[Client], cases: list[Case], binaries: Binaries, show_noise: bool) -> list[Result]:
    """All clients, in their order."""
    places, processes = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(CLIENTS_AT_ONCE)

    async def one(client: Client) -> Result:
        async with processes:
            result = await run_client(client, cases, binaries, places, show_noise)
        counts = ", ".join(f"{result.count(word)} {word}" for word in VERDICTS)
        print(f"{client.label}: {counts} of {len(result.outcomes)}", file=sys.stderr, flush=True)
        return result

    there = [client for client in clients if binaries.interpreter(client) is not None]
    for client in clients:
        if client not in there:
            print(f"left out: {client.label}, whose environment is not there", file=sys.stderr)
    return list(await asyncio.gather(*map(one, there)))
