"""Lets coding agents do one task with tools, directly and through Spillway, while the provider fails in scripted ways.

    python3 tests/agents/run.py --spillway BIN --modules node_modules --aider VENV --node NODE [--markdown]

Each run has a home, a folder and a Spillway of its own. It is done when the file is there with the word. Through
Spillway must fail no more often than directly, and be as quick: ten percent and a little are allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import answers
import document
from agents import AGENTS, Agent, Installed
from model import Model
from processes import Spillway, environment
from script import SITUATIONS, Call

WORD = "spillway"
FILE = "hello.txt"
DEADLINE_S = 150
# Slower than this is slower: a share of the time directly, and what starting processes varies by.
SLOWER_SHARE = 0.10
SLOWER_S = 0.25
# Other work of the machine, and what agents add to their pauses by chance, make a run slow that is not.
ROUNDS = 4
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class Run:
    """What came of one task."""

    done: bool
    seconds: float
    calls: list[Call]
    output: str

    def main_calls(self) -> int:
        return sum(call.main for call in self.calls)


@dataclass(frozen=True)
class Row:
    """All runs of one agent in one situation."""

    agent: str
    situation: str
    direct: list[Run]
    through: list[Run]

    def is_fault(self) -> bool:
        return self.verdict().isupper()

    def verdict(self) -> str:
        """One word; those in capitals are faults."""
        if self.situation == "good" and done(self.through) < len(self.through):
            return "FAILS"
        if done(self.through) != done(self.direct):
            return "better" if done(self.through) > done(self.direct) else "FAILS"
        if not done(self.direct):
            return "same"
        ours, theirs = seconds(self.through), seconds(self.direct)
        if ours > theirs * (1 + SLOWER_SHARE) + SLOWER_S:
            return "SLOWER"
        return "quicker" if ours * (1 + SLOWER_SHARE) + SLOWER_S < theirs else "same"


def done(runs: list[Run]) -> int:
    return sum(run.done for run in runs)


def seconds(runs: list[Run]) -> float:
    """The quickest of those that were done."""
    return min((run.seconds for run in runs if run.done), default=float("nan"))


def let_do(agent: Agent, installed: Installed, binary: str, model: Model, situation: str, through: bool) -> Run:
    """One task, with everything fresh."""
    with tempfile.TemporaryDirectory(prefix="spillway-agents-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home, work = folder / "home", folder / "work"
        home.mkdir()
        work.mkdir()
        provider = f"http://127.0.0.1:{model.port}"
        log = folder / "spillway.log"
        # Where the environment names a provider's address, the Spillway of one command calls there.
        runner = [binary, "run", "--log-file", str(log), "--"] if through and agent.by_run else []
        spillway = Spillway(binary, provider, folder) if through and not agent.by_run else None
        tripped: list[str] = []

        def rewritten(text: str) -> str:
            return document.at(text, spillway.url) if spillway else document.without_spillway(text, provider)

        variables = {name: rewritten(value) for name, value in environment(binary).items()}
        agent.write_files(home, rewritten)
        command = agent.command(installed, answers.TASK.format(name=FILE, folder=work, word=WORD))
        model.script.begin(situation)
        began = time.monotonic()
        output, code = _run([*runner, *command], agent.environment(installed, home, variables), work)
        took = time.monotonic() - began
        if spillway:
            spillway.stop()
            tripped = spillway.tripped()
            output += "".join(f"\n{line}" for line in tripped)
            output += "".join(f"\nSpillway: {event.get('status')} {event.get('why')}" for event in spillway.requests())
        path = work / FILE
        is_done = code == 0 and path.exists() and path.read_text().strip() == WORD
        # An agent that found a way around Spillway would show nothing; each call's line names its upstream.
        is_done &= not through or "upstream" in log.read_text()
        is_done &= not tripped
        return Run(is_done, took, model.script.calls, f"exit {code}\n{output}")


def _run(command: list[str], env: dict[str, str], folder: Path) -> tuple[str, int | None]:
    """What it printed, and its exit code; None where it did not end in time."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None
        try:
            code = process.wait(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            code = None
        # What it has started, such as servers of its own, ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.seek(0)
        return log.read(), code


def text_of(row: Row) -> list[str]:
    """A row of the table: how many were done, in what time, by how many calls."""

    def side(runs: list[Run]) -> str:
        calls = max(run.main_calls() for run in runs)
        took = f"{seconds(runs):.1f} s" if done(runs) else "failed"
        part = "" if done(runs) in (0, len(runs)) else f" ({done(runs)} of {len(runs)})"
        return f"{took}{part}, {calls} calls"

    return [row.agent, row.situation, side(row.direct), side(row.through), row.verdict()]


def print_table(rows: list[Row], markdown: bool) -> None:
    head = ["agent", "situation", "directly", "through", ""]
    lines = [text_of(row) for row in rows]
    if markdown:
        for line in (head, ["---"] * len(head), *lines):
            print("| " + " | ".join(line) + " |")
        return
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def explain(row: Row) -> None:
    """What is needed to find out why a row is bad."""
    print(f"\n--- {row.agent}, {row.situation}: {row.verdict()}")
    for way, runs in (("directly", row.direct), ("through", row.through)):
        for run in runs:
            first = run.calls[0].at if run.calls else 0
            called = [f"{call.at - first:.2f} {call.over} {call.answered}" for call in run.calls]
            print(f"{way}: {run.seconds:.2f} s; calls: {'; '.join(called)}")
            if not run.done or way == "through":
                print(run.output[-SHOWN_CHARACTERS:])


def compare(agent: Agent, situation: str, installed: Installed, model: Model, binary: str, rounds: int) -> Row:
    """Both ways once, and again for as long as it looks like a fault."""
    row = Row(agent.name, situation, [], [])
    while not row.direct or (row.is_fault() and len(row.direct) < rounds):
        for through, runs in ((False, row.direct), (True, row.through)):
            runs.append(let_do(agent, installed, binary, model, situation, through))
    return row


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", required=True, help="the binary")
    parser.add_argument("--modules", type=Path, required=True, help="the folder node_modules with the agents")
    parser.add_argument("--aider", type=Path, required=True, help="the environment that has aider")
    parser.add_argument("--node", type=Path, required=True, help="the binary of Node")
    parser.add_argument("--agent", action="append", choices=[agent.name for agent in AGENTS], help="only this one")
    parser.add_argument("--situation", action="append", choices=list(SITUATIONS), help="only this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs at most of what looks like a fault")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    installed = Installed(*(path.absolute() for path in (options.modules, options.aider, options.node)))
    model = Model()
    rows = []
    for agent in AGENTS:
        for situation in SITUATIONS:
            is_wanted = agent.name in (options.agent or [agent.name])
            is_wanted &= situation in (options.situation or SITUATIONS)
            if is_wanted and (situation == "good" or not agent.only_good):
                rows.append(compare(agent, situation, installed, model, options.spillway, options.rounds))
                # The table comes at the end, minutes later.
                print("  ".join(text_of(rows[-1])), file=sys.stderr, flush=True)
    model.close()
    bad = [row for row in rows if row.is_fault()]
    for row in bad:
        explain(row)
    print()
    print_table(rows, options.markdown)
    print(f"\n{len(rows) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
