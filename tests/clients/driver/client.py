"""A client's process, as the driver speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.cases import Case, Step
from driver.processes import environment

# What a call gives where a client's process has ended, which is never as it should be.
ENDED = "driver.ClientEnded"

# What a call gives that has not ended by the deadline of its step.
STILL_WAITING = "driver.StillWaiting"

# A line of a client's may hold an answer of 5 MB, escaped.
LINE_MAX_BYTES = 64 << 20

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Client:
    """A library in one version, as clients.toml has it."""

    name: str
    label: str
    # What its versions are looked up by.
    packages: list[str]
    language: str
    file: str
    # Python: which environment holds it.
    environment: str | None
    # By dialect.
    calls: dict[str, list[str]]
    # It takes part in the short form.
    short: bool
    # Instead of a default of the library's that takes minutes.
    max_retries: int | None

    def versions(self) -> list[str]:
        """The versions of its packages, as they are pinned."""
        if self.language == "node":
            locked = json.loads((FOLDER / "node/package-lock.json").read_text())["packages"]
            return [locked[f"node_modules/{name}"]["version"] for name in self.packages]
        pins = (FOLDER / f"python/{self.environment}.txt").read_text().splitlines()
        versions = dict(pin.split("==", 1) for pin in pins if "==" in pin)
        return [versions[name] for name in self.packages]

    def makes(self, case: Case) -> bool:
        return all(step.call in self.calls.get(case.dialect, []) for step in case.steps)


def known_clients() -> list[Client]:
    """All clients, in the order of the table."""
    with (FOLDER / "clients.toml").open("rb") as file:
        entries = tomllib.load(file)["client"]
    return [
        Client(
            name=entry["name"],
            label=entry["label"],
            packages=entry["packages"],
            language=entry["language"],
            file=entry["file"],
            environment=entry.get("environment"),
            calls=entry["calls"],
            short=entry.get("short", False),
            max_retries=entry.get("max_retries"),
        )
        for entry in entries
    ]


class Running:
    """A client's process with calls under way. Several may be under way at once."""

    def __init__(self, client: Client, process: asyncio.subprocess.Process):
        self._client = client
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, client: Client, interpreter: str, show_noise: bool) -> Running:
        command = [interpreter, str(FOLDER / client.file)]
        noise = None if show_noise else asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=noise,
            limit=LINE_MAX_BYTES, env=environment(), cwd=FOLDER,
        )  # fmt: skip
        return cls(client, process)

    async def call(self, case: Case, step: Step, url: str) -> dict[str, Any]:
        """Has the client make the call of a step; what does not end by its deadline is an answer as well."""
        number = next(self._ids)
        options = {"max_retries": self._client.max_retries, **step.options}
        line = {
            "id": number, "dialect": case.dialect, "base_url": f"{url}/{case.dialect}", "api_key": step.api_key,
            "call": step.call, "model": step.model, "prompt": step.prompt, "options": options,
        }  # fmt: skip
        loop = asyncio.get_running_loop()
        self._waiting[number] = loop.create_future()
        if self._process.returncode is not None:
            return failed(ENDED, f"the client's process has ended with {self._process.returncode}")
        assert self._process.stdin is not None
        started = loop.time()
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        await self._process.stdin.drain()
        try:
            answer = await asyncio.wait_for(self._waiting[number], step.deadline_s)
        except TimeoutError:
            answer = failed(STILL_WAITING, f"the client still waits after {step.deadline_s:g} s")
        finally:
            del self._waiting[number]
        answer.setdefault("seconds", loop.time() - started)
        return answer

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                print(f"a client wrote what is no answer: {line[:200]!r}", file=sys.stderr)
                continue
            future = self._waiting.get(answer.pop("id", None))
            if future is not None and not future.done():
                future.set_result(answer)
        for future in self._waiting.values():
            if not future.done():
                future.set_result(failed(ENDED, "the client's process has ended"))

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader


def failed(kind: str, message: str) -> dict[str, Any]:
    error = {"class": kind, "status": None, "code": None, "type": None, "message": message}
    return {"text": None, "error": error}
