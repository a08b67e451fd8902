"""The mock provider and Spillway, each a real process of its own for each run of a case."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

# Everything waited for takes a part of a second; the rest is for busy machines.
START_DEADLINE_S = 30.0

# How soon the provider notices that a client has left, at most.
LEAVING_DEADLINE_S = 5.0
POLL_S = 0.02

# Lines of a process's output that are kept, to be shown when it ends early.
LINES_KEPT = 200

# Defaults throughout: only where it listens and where the providers are.
CONFIGURATION = """\
[server]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"

[upstreams.openai]
url = "{url}/openai"

[upstreams.anthropic]
url = "{url}/anthropic"

[upstreams.gemini]
url = "{url}/gemini"
"""

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment() -> dict[str, str]:
    """The environment without anybody's keys and without proxies for the outside world."""
    private = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "LITELLM_", "LANGCHAIN_", "LANGSMITH_")
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(private) and k.lower() not in proxies}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


class Process:
    """A process that says on a line of its output that it is ready."""

    def __init__(self, process: asyncio.subprocess.Process):
        self._process = process
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: list[str], folder: Path, ready: Callable[[str], str | None]) -> tuple[Process, str]:
        """Starts it, and returns it with what `ready` makes of the line it waits for."""
        made = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        process = cls(made)
        try:
            found = await asyncio.wait_for(process._wait_for(ready), START_DEADLINE_S)
        except BaseException:
            await process.stop()
            raise
        process._reader = asyncio.create_task(process._read_on())
        return process, found

    async def _wait_for(self, ready: Callable[[str], str | None]) -> str:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            if (found := ready(text)) is not None:
                return found
        raise RuntimeError(f"{self._process} ended early:\n{self.output()}")

    async def _read_on(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._lines.append(line.decode(errors="replace").rstrip())

    def output(self) -> str:
        return "\n".join(self._lines)

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()


class Mock:
    """The mock provider's control."""

    def __init__(self, url: str):
        self.url = url

    async def follow(self, script: dict[str, Any]) -> None:
        await self._ask("script", script)

    async def requests(self) -> list[dict[str, Any]]:
        """What it was asked, oldest first."""
        return await self._ask("requests", None)

    async def left(self) -> int:
        """Answers that were given up by who asked for them, once none is under way any more."""
        end = asyncio.get_running_loop().time() + LEAVING_DEADLINE_S
        while True:
            stats = await self._ask("stats", None)
            under_way = stats["started"] - stats["completed"] - stats["aborted"] - stats["broken"]
            if under_way == 0 or asyncio.get_running_loop().time() > end:
                return stats["aborted"]
            await asyncio.sleep(POLL_S)

    async def _ask(self, what: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_control/{what}", data=data, headers=headers)

        def ask() -> Any:
            with _direct.open(request, timeout=START_DEADLINE_S) as response:
                return json.loads(response.read())

        return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def place(mock_binary: str, spillway_binary: str | None) -> AsyncIterator[tuple[Mock, str, Process | None]]:
    """A fresh mock, and in front of it a fresh Spillway if there is a binary of it; with the URL that clients use."""
    folder = Path(tempfile.mkdtemp(prefix="spillway-clients-"))
    processes = []
    try:
        announced = "listening on "
        process, mock_url = await Process.start(
            [mock_binary, "--port", "0"],
            folder,
            lambda line: line.removeprefix(announced) if line.startswith(announced) else None,
        )
        processes.append(process)
        url, spillway = mock_url, None
        if spillway_binary is not None:
            config = folder / "spillway.toml"
            config.write_text(CONFIGURATION.format(url=mock_url))
            command = [spillway_binary, "run", "--config", str(config)]
            spillway, url = await Process.start(command, folder, _listening)
            processes.append(spillway)
        yield Mock(mock_url), url, spillway
    finally:
        for process in processes:
            await process.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _listening(line: str) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("message") != "Spillway is ready":
        return None
    return f"http://{event['listen']}"
