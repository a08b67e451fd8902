"""A Spillway in front of a provider, both real processes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

READY_DEADLINE_S = 30
POLL_S = 0.02
STOP_DEADLINE_S = 10

# Tight for what they stop, and nothing that an agent at its task may trip over.
GUARDS = """[guards]
max_tokens_per_request = 400_000
max_turns_per_conversation = 40
max_tokens_per_conversation = 4_000_000
max_tokens_per_hour = 10_000_000
max_repeats = 3
growth_alarm = 4
warn_only = []
"""


class Server:
    """A process that tells in a line of its output where it listens."""

    def __init__(self, name: str, command: list[str], folder: Path):
        self._name, self._log = name, folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def lines(self) -> list[str]:
        # The last line may still be on its way.
        return self._log.read_text(errors="replace").split("\n")[:-1]

    def wait_for(self, read) -> Any:
        """What `read` makes of the first line of which it makes something."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while time.monotonic() < deadline:
            found = next(filter(None, map(read, self.lines())), None)
            if found is not None:
                return found
            if self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"{self._name} did not start:\n" + "\n".join(self.lines()))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Spillway(Server):
    """Only its addresses, those of the providers and guards are configured."""

    def __init__(self, binary: str, provider: str, folder: Path):
        config = folder / "spillway.toml"
        upstreams = "".join(f'[upstreams.{name}]\nurl = "{provider}"\n' for name in ("openai", "anthropic", "gemini"))
        own = '[server]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n[log]\nformat = "json"\n'
        config.write_text(own + upstreams + GUARDS)
        super().__init__("spillway", [binary, "run", "--config", str(config)], folder)
        self.url = "http://" + self.wait_for(lambda line: _event(line, "Spillway is ready").get("listen"))

    def tripped(self) -> list[str]:
        """What it has logged of guards that have something against a request."""
        return [line for line in self.lines() if '"guard":' in line]

    def requests(self) -> list[dict[str, Any]]:
        """What it has logged of each request that has ended."""
        return [event for event in (_event(line, "request") for line in self.lines()) if event]


class MockProvider(Server):
    """Spillway's own mock provider, well."""

    def __init__(self, binary: str, folder: Path):
        super().__init__("provider", [binary, "mock-provider", "--port", "0"], folder)
        self.url = self.wait_for(lambda line: next((word for word in line.split() if word.startswith("http://")), None))


def environment(binary: str) -> dict[str, str]:
    """The variables that `spillway env` sets, for where Spillway listens by default."""
    # Beside its configuration there is none, whatever stands in the folder from which this is started.
    printed = subprocess.run([binary, "env", "--shell", "json"], cwd="/", check=True, capture_output=True)
    return json.loads(printed.stdout)


def _event(line: str, message: str) -> dict[str, Any]:
    """A line of Spillway's log, if it has this message."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if event.get("message") == message else {}
