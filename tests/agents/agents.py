"""How each agent is set up for a task, headless: by docs/clients.md, and beyond that only kept from asking anybody."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import document

KEYS = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-ant-test"}
# Nobody listens on the port of "discard": what asks the world outside fails at once.
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
# As the document asks of those who have a proxy; Claude Code calls by it without TLS too.
OFFLINE |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


@dataclass(frozen=True)
class Installed:
    """Where the agents are: a folder node_modules, and the environment of aider."""

    modules: Path
    aider: Path
    node: Path

    def program(self, name: str) -> str:
        return str(self.aider / "bin" / name) if name == "aider" else str(self.modules / ".bin" / name)


@dataclass(frozen=True)
class Agent:
    """An agent in one way of setting it up."""

    name: str
    section: str
    program: str
    arguments: Callable[[str], list[str]]
    # Which of its section's files it gets; None if the variables are enough for it.
    file: int | None = None
    # Its own words for: no telemetry, no updates, no questions.
    quiet: dict[str, str] = field(default_factory=dict)
    # Whether it goes through Spillway by `spillway run -- AGENT`, instead of one that runs already.
    by_run: bool = False
    # Whether it is only shown to work, since another way of setting it up meets every situation.
    only_good: bool = False

    def command(self, installed: Installed, task: str) -> list[str]:
        return [installed.program(self.program), *self.arguments(task)]

    def environment(self, installed: Installed, home: Path, variables: dict[str, str]) -> dict[str, str]:
        """Everything that it finds in its environment; `variables` are those of `spillway env`, for where it calls."""
        folders = {
            "HOME": home,
            "XDG_CONFIG_HOME": home / ".config",
            "XDG_DATA_HOME": home / ".local/share",
            "XDG_CACHE_HOME": home / ".cache",
            "XDG_STATE_HOME": home / ".local/state",
        }
        path = os.pathsep.join((str(installed.node.parent), "/usr/local/bin", "/usr/bin", "/bin"))
        plain = {"PATH": path, "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}
        named = variables if self.file is None else {}
        return plain | OFFLINE | KEYS | self.quiet | named | {name: str(folder) for name, folder in folders.items()}

    def write_files(self, home: Path, rewritten: Callable[[str], str]) -> None:
        """Puts its file where the document says that it belongs."""
        if self.file is None:
            return
        files = [block for block in document.sections()[self.section] if block.path]
        block = files[self.file]
        path = home / block.path.removeprefix("~/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rewritten(block.text))


def _claude(task: str) -> list[str]:
    return ["--print", task, "--allowedTools", "Write,Bash", "--permission-mode", "acceptEdits"]


def _codex(task: str) -> list[str]:
    quiet = ["-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false"]
    return ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *quiet, task]


def _aider(task: str) -> list[str]:
    quiet = ["--no-check-update", "--no-show-release-notes", "--analytics-disable", "--no-detect-urls"]
    return ["--yes-always", "--no-git", "--no-show-model-warnings", *quiet, "--model", "gpt-4o", "--message", task]


def _opencode(model: str) -> Callable[[str], list[str]]:
    return lambda task: ["run", "--model", model, task]


_CLAUDE_QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
_OPENCODE_QUIET = {
    name: "1"
    for name in (
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS",
    )
}
_AIDER_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

AGENTS = [
    Agent("claude", "Claude Code", "claude", _claude, quiet=_CLAUDE_QUIET),
    Agent("claude-settings", "Claude Code", "claude", _claude, file=0, quiet=_CLAUDE_QUIET, only_good=True),
    Agent("claude-run", "Claude Code", "claude", _claude, quiet=_CLAUDE_QUIET, by_run=True, only_good=True),
    Agent("codex", "Codex", "codex", _codex, file=0, quiet={"CODEX_API_KEY": "sk-test"}),
    Agent("codex-websocket", "Codex", "codex", _codex, file=1, quiet={"CODEX_API_KEY": "sk-test"}),
    Agent("opencode", "opencode", "opencode", _opencode("openai/gpt-5.2"), file=0, quiet=_OPENCODE_QUIET),
    Agent(
        "opencode-anthropic",
        "opencode",
        "opencode",
        _opencode("anthropic/claude-sonnet-4-5"),
        file=0,
        quiet=_OPENCODE_QUIET,
        only_good=True,
    ),
    Agent(
        "opencode-variables",
        "opencode",
        "opencode",
        _opencode("openai/gpt-5.2"),
        quiet=_OPENCODE_QUIET,
        only_good=True,
    ),
    Agent("aider", "aider", "aider", _aider, quiet=_AIDER_QUIET),
]
