"""A mock provider and a Spillway, both real processes, as tests see them."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

# Everything waited for takes a second or two at most; the rest is for busy machines.
DEADLINE_S = 30
POLL_S = 0.02
# Where Spillway listens unless a test says otherwise.
LOOPBACK = 'listen = "127.0.0.1:0"'

# What the mock provider answers on a good day.
TEXT = "Hello from the mock provider."
MODEL = "mock-small"
HELLO = [{"role": "user", "content": "Hello?"}]

# What is answered where nobody serves, to requests that say so.
STATIC_TEXT = 'We are degraded; "come back" later.\u2028Sorry.'
DEGRADED = {"x-degraded": "yes"}

# The circuit of every upstream opens at so many failures in a row.
FAILURES_TO_OPEN = 3

# A call that fails every time is made three times by an SDK's own default, with pauses of at most 0.5 s and 1 s.
CALLS_BY_DEFAULT = 3
PAUSES_BY_DEFAULT_S = 1.5

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(method: str, url: str) -> dict:
    """Calls a local URL, whatever proxies the environment names, and returns its JSON."""
    with _direct.open(urllib.request.Request(url, method=method), timeout=DEADLINE_S) as response:
        return json.loads(response.read() or "null")


def eventually(what: str, probe):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain for {what}"
        time.sleep(POLL_S)
    return answer


def binary(variable: str) -> str:
    """A binary or folder that `cargo xtask test` has built, and names in the environment."""
    path = os.environ.get(variable)
    assert path and Path(path).exists(), f"{variable} names nothing that exists; start this with `cargo xtask test`"
    return path


class Process:
    """A process whose output goes to a file, which is shown when the test fails."""

    def __init__(self, name: str, command: list, folder: Path):
        self._name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def wait_for_line(self, what: str, read):
        """Waits until `read` makes something of a line of the output."""

        def look():
            assert self._process.poll() is None, f"{self._name} ended early:\n{self._output()}"
            # The last line may still be on its way.
            lines = self._output().split("\n")[:-1]
            return next(filter(None, map(read, lines)), None)

        return eventually(what, look)

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        print(f"--- {self._name}\n{self._output()}")

    def _output(self) -> str:
        return self._log.read_text(errors="replace")


class Provider(Process):
    """The mock provider, well until told otherwise."""

    def __init__(self, folder: Path):
        super().__init__("provider", [binary("SPILLWAY_MOCK_PROVIDER"), "--port", "0"], folder)
        announced = "listening on "
        self.url = self.wait_for_line(
            "the mock provider to listen",
            lambda line: line.removeprefix(announced).strip() if line.startswith(announced) else None,
        )

    def behaves(self, behaviour: str):
        """From the next request on: heal, fail?status=503, rate-limit?retry_after_s=2, spent-quota, overload, ...

        With `times=N` for so many requests, and then it is well again."""
        http("POST", f"{self.url}/_control/{behaviour}")

    def requests(self) -> int:
        """Requests received so far."""
        return http("GET", f"{self.url}/_control/stats")["started"]


class Spillway(Process):
    """A Spillway on free ports in front of a provider."""

    def __init__(self, provider_url: str, unreachable_url: str, folder: Path, server: str = LOOPBACK, more: str = ""):
        self.binary = binary("SPILLWAY_BIN")
        config = folder / "spillway.toml"
        config.write_text(configuration(provider_url, unreachable_url, binary("SPILLWAY_POLICIES"), server) + more)
        super().__init__("spillway", [self.binary, "run", "--config", str(config)], folder)
        ready = self.wait_for_line("Spillway to listen", _ready_line)
        self.listen = ready["listen"]
        self.url = f"http://{self.listen}"
        self.admin_url = f"http://{ready['admin']}"
        eventually("Spillway to be ready", self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with _direct.open(f"{self.admin_url}/readyz", timeout=DEADLINE_S) as response:
                return response.status == 200
        except OSError:
            return False

    def metric(self, name: str) -> float:
        """The sum of all figures of this name that have these labels, whatever others they have."""
        with _direct.open(f"{self.admin_url}/metrics", timeout=DEADLINE_S) as response:
            lines = response.read().decode().splitlines()
        wanted_name, wanted_labels = _series(name)
        told = (line.rsplit(" ", 1) for line in lines if line.startswith(wanted_name))
        figures = ((_series(series), float(value)) for series, value in told)
        return sum(value for (name, labels), value in figures if name == wanted_name and wanted_labels <= labels)

    def job(self, location: str) -> dict:
        """A job as its status page shows it."""
        return http("GET", self.url + location)


def _series(series: str) -> tuple[str, set[str]]:
    """A series' name, and its labels with their values."""
    name, _, labels = series.partition("{")
    return name, {label.strip('"') for label in labels.rstrip("}").split('",') if label}


def _ready_line(line: str):
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if event.get("message") == "Spillway is ready" else None


def configuration(provider_url: str, unreachable_url: str, policies: str, server: str) -> str:
    """Upstreams in each state that a test needs: well, as by default, limited, badly mannered, gone."""
    breaker = f'breaker = {{ consecutive_failures = {FAILURES_TO_OPEN}, cooldown = "2s", cooldown_max = "4s" }}'
    # One attempt: what a test tells the provider to answer is what Spillway has to work with.
    common = f"{breaker}\nretry = {{ max_attempts = 1 }}"
    return f"""
[server]
{server}
max_body = "1MiB"
drain_timeout = "1s"

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"

[policies]
dir = {json.dumps(policies)}

[spool]
dir = "spool"

[upstreams.openai]
url = "{provider_url}"
policy = "default"
{common}

[upstreams.anthropic]
url = "{provider_url}"
policy = "default"
{common}

[upstreams.untouched]
url = "{provider_url}"

[upstreams.untouched-anthropic]
url = "{provider_url}"
dialect = "anthropic"

[upstreams.limited]
url = "{provider_url}"
limits = {{ tokens_per_minute = 1000 }}
{common}

[upstreams.limited-anthropic]
url = "{provider_url}"
dialect = "anthropic"
limits = {{ tokens_per_minute = 1000 }}
{common}

[upstreams.masked]
url = "{provider_url}"
policy = "error-in-success"
{common}

[upstreams.gone]
url = "{unreachable_url}"
{common}

[upstreams.gone-anthropic]
url = "{unreachable_url}"
dialect = "anthropic"
{common}

[routes.degraded]
targets = ["gone"]
headers = "x-degraded: yes"
static_answer = {json.dumps(STATIC_TEXT)}

[routes.degraded-anthropic]
targets = ["gone-anthropic"]
headers = "x-degraded: yes"
static_answer = {json.dumps(STATIC_TEXT)}
"""


def refusing_socket() -> socket.socket:
    """A socket that is bound and does not listen: nobody else gets its port, and connections to it are refused."""
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    return reserved
