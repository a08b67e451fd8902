"""Real clients, each case directly and through Spillway; `cargo xtask clients` prepares all and starts this.

Ends with 0 where nothing differs that is not meant, 1 where something does, 2 where the arguments are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys

from driver import report
from driver.client import known_clients
from driver.other_cases import all_cases
from driver.suite import Binaries, run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--spillway", required=True, metavar="FILE", help="Spillway's binary")
    parser.add_argument("--mock", required=True, metavar="FILE", help="the mock provider's binary")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=FILE", help="the interpreter of an environment"
    )
    parser.add_argument("--node", metavar="FILE", help="Node's binary")
    parser.add_argument("--client", action="append", default=[], metavar="NAME", help="only this client")
    parser.add_argument("--case", action="append", default=[], metavar="PATTERN", help="only cases named like this")
    parser.add_argument("--short", action="store_true", help="only what each change must pass")
    parser.add_argument("--json", action="store_true", help="print the outcomes for programs")
    parser.add_argument("--markdown", action="store_true", help="print the table that docs/ keeps")
    parser.add_argument("--noise", action="store_true", help="show what the libraries print")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    clients, cases = known_clients(), all_cases()
    names = [client.name for client in clients]
    for name in given.client:
        if not fnmatch.filter(names, name):
            print(f"there is no client {name}; there are: {', '.join(names)}", file=sys.stderr)
            return 2
    if given.client:
        clients = [client for client in clients if any(fnmatch.fnmatchcase(client.name, one) for one in given.client)]
    elif given.short:
        clients = [client for client in clients if client.short]
    if given.short:
        cases = [case for case in cases if case.short]
    if given.case:
        cases = [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in given.case)]
    pythons = dict(pair.split("=", 1) for pair in given.python)
    binaries = Binaries(given.mock, given.spillway, pythons, given.node)
    results = asyncio.run(run(clients, cases, binaries, given.noise))
    if given.json:
        print(report.as_json(results))
    elif given.markdown:
        print(report.as_markdown(results), end="")
    else:
        print(report.as_text(results), end="")
    outcomes = [outcome for result in results for outcome in result.outcomes]
    if not outcomes:
        print("no case was run", file=sys.stderr)
        return 2
    return 1 if any(outcome.verdict == "different" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
