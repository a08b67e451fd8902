"""docs/clients.md as the tests need it: what it says is run as it stands there, so that it stays true."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "clients.md"
# Where the document says that Spillway listens.
SPILLWAY = "http://127.0.0.1:4141"

_FENCE = re.compile(r"^```(?P<language>\w+) ?(?P<path>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| \[(?P<client>.*)\]\(#\S+\) \| (?P<registry>PyPI|npm) \| (?P<versions>[^|]*) \|", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A program, or where it has a path the content of a file; `~` is the user's home."""

    language: str
    path: str
    text: str


@dataclass(frozen=True)
class Package:
    """A package in the version that the document says was tried."""

    registry: str
    name: str
    version: str


def sections() -> dict[str, list[Block]]:
    """The blocks below each heading, in order."""
    parts = re.split(r"^## (.*)$\n", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    by_title = zip(parts[::2], parts[1::2], strict=True)
    return {title: [Block(**fence.groupdict()) for fence in _FENCE.finditer(text)] for title, text in by_title}


def packages() -> set[Package]:
    """Every package that the table names."""
    found = set()
    for row in _ROW.finditer(DOCUMENT.read_text()):
        names, versions = re.findall(r"`([^`]+)`", row["client"]), row["versions"].split(", ")
        found |= {Package(row["registry"], *pair) for pair in zip(names, versions, strict=True)}
    return found


def at(text: str, spillway: str) -> str:
    """The same text for a Spillway that listens somewhere else."""
    return text.replace(SPILLWAY, spillway)


def without_spillway(text: str, provider: str) -> str:
    """The same text for a client that calls the provider itself."""
    return re.sub(rf"{SPILLWAY}/(openai|anthropic|gemini)", provider, text)
