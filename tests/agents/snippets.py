"""Tries docs/clients.md: runs each of its programs through a real Spillway, in the versions that the page names.

    python3 tests/agents/snippets.py --spillway BIN --python VENV/bin/python... --node NODE --modules node_modules

It needs no network: the provider is `spillway mock-provider`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import document
from document import Block
from processes import MockProvider, Spillway, environment

DEADLINE_S = 120
KEYS = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-ant-test", "GEMINI_API_KEY": "test"}
# Libraries that would ask the network for something else.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "AI_SDK_LOG_WARNINGS": "false", "LANGCHAIN_TRACING_V2": "false"}
# What the mock provider says to each call; a program prints it as often as it calls.
ANSWER = "Hello from the mock provider."


@dataclass(frozen=True)
class Tools:
    """What programs are run with."""

    spillway: str
    pythons: list[str]
    node: str | None
    # Folders node_modules; programs find their packages in the first.
    modules: list[Path]

    def command(self, block: Block, program: Path) -> list[str] | None:
        """How a program is run; None if there is nothing here to run it with."""
        if block.language == "sh":
            return ["sh", "-eu", str(program)]
        if block.language == "js" and self.node:
            return [self.node, str(program)]
        if block.language == "python":
            python = next((python for python in self.pythons if _imports(python, block)), None)
            return [python, str(program)] if python else None
        return None


def _imports(python: str, block: Block) -> bool:
    """Whether this interpreter has the packages that a program imports."""
    imports = [line for line in block.text.splitlines() if line.startswith(("import ", "from "))]
    return subprocess.run([python, "-c", "\n".join(imports)], capture_output=True).returncode == 0


def try_block(tools: Tools, block: Block, folder: Path) -> str:
    """Runs one program; "" if it was served through Spillway, else what went wrong."""
    folder.mkdir()
    program = folder / {"sh": "program.sh", "js": "program.mjs", "python": "program.py"}[block.language]
    if tools.modules:
        (folder / "node_modules").symlink_to(tools.modules[0].resolve())
    command = tools.command(block, program)
    if command is None:
        return "nothing here runs it: give --python and --node with --modules"
    provider = MockProvider(tools.spillway, folder)
    spillway = Spillway(tools.spillway, provider.url, folder)
    try:
        program.write_text(document.at(block.text, spillway.url))
        here = {name: document.at(value, spillway.url) for name, value in environment(tools.spillway).items()}
        ran = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)} | KEYS | QUIET | here,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {DEADLINE_S} s"
    finally:
        spillway.stop()
        provider.stop()
    served = [request["upstream"] for request in spillway.requests() if request["outcome"] == "answered"]
    if ran.returncode or not served or ran.stdout.count(ANSWER) != len(served):
        return f"it ended with {ran.returncode}; served: {served}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    return ""


def versions(tools: Tools) -> list[str]:
    """Packages that are not here in the version that the page names."""
    wrong = []
    for package in sorted(document.packages(), key=lambda package: package.name):
        installed = _installed(tools, package.registry, package.name)
        if package.version not in installed:
            here = ", ".join(sorted(installed)) or "none"
            wrong.append(f"{package.name}: the page says {package.version}, here is {here}")
    return wrong


def _installed(tools: Tools, registry: str, name: str) -> set[str]:
    """The versions that there are of a package, in all environments."""
    if registry == "npm":
        manifests = [modules / name / "package.json" for modules in tools.modules]
        return {json.loads(manifest.read_text())["version"] for manifest in manifests if manifest.exists()}
    script = f"import importlib.metadata as m; print(m.version({name!r}))"
    runs = [subprocess.run([python, "-c", script], capture_output=True, text=True) for python in tools.pythons]
    return {run.stdout.strip() for run in runs if run.returncode == 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", required=True, help="the binary")
    parser.add_argument("--python", action="append", default=[], help="an interpreter with packages; may be repeated")
    parser.add_argument("--node", help="the binary of Node")
    parser.add_argument(
        "--modules", action="append", type=Path, default=[], help="a folder node_modules; may be repeated"
    )
    parser.add_argument("--section", help="only this one")
    options = parser.parse_args()
    tools = Tools(options.spillway, options.python, options.node, options.modules)
    failed = versions(tools)
    for complaint in failed:
        print(f"FAILED  {complaint}", flush=True)
    tried = 0
    with tempfile.TemporaryDirectory(prefix="spillway-clients-") as folder:
        for section, blocks in document.sections().items():
            if options.section not in (None, section):
                continue
            programs = [block for block in blocks if block.language in ("python", "js", "sh")]
            for block in programs:
                complaint = try_block(tools, block, Path(folder) / f"{tried}")
                tried += 1
                print(f"{'FAILED' if complaint else 'ok    '}  {section}, {block.language}  {complaint}", flush=True)
                failed += [complaint] if complaint else []
    print(f"{tried} programs tried, {len(failed)} complaints")
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
