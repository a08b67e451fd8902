"""The comparison itself: `python -m unittest driver.test_compare` in this folder."""

from __future__ import annotations

import unittest
from typing import Any

from driver.cases import Case, Step
from driver.client import known_clients
from driver.compare import StepRun, judged
from driver.other_cases import all_cases
from driver.words import TEXT

GOOD = {"text": TEXT, "usage": {"input": 3, "output": 5}, "seconds": 0.1}
ERROR = {"class": "x.RateLimitError", "status": 429, "code": "c", "type": "t", "message": "No."}
BAD = {"text": None, "error": ERROR, "seconds": 0.1}
REQUEST = {"method": "POST", "path": "/v1", "query": None, "bytes": 10, "key": "k"}


def ran(answer: dict[str, Any], calls: int = 1, **more: Any) -> list[StepRun]:
    return [StepRun({**answer, **more}, [REQUEST] * calls)]


def verdict(direct: list[StepRun], through: list[StepRun], **case: Any) -> str:
    return judged("client", Case("openai/chat/a case", "openai", (Step("chat"),), **case), direct, through).verdict


class Comparison(unittest.TestCase):
    def test_what_is_the_same_is_the_same(self) -> None:
        self.assertEqual(verdict(ran(GOOD), ran(GOOD)), "same")
        self.assertEqual(verdict(ran(BAD, 3), ran(BAD, 3)), "same")
        # Ports and numbers of requests stand for one run only; fewer calls are no harm.
        one, other = ({**BAD, "error": {**ERROR, "message": f"at 127.0.0.1:{port}"}} for port in (1, 22))
        self.assertEqual(verdict(ran(one, 3), ran(other, 1)), "same")

    def test_each_thing_that_an_application_sees_is_compared(self) -> None:
        for name, value in [
            ("text", "Another text."),
            ("texts", ["one", "two"]),
            ("usage", {"input": 3, "output": 6}),
            ("tool_calls", [{"name": "a", "arguments": {}}]),
            ("finish", "length"),
            ("events", 7),
            ("extra", {"models": []}),
        ]:
            self.assertEqual(verdict(ran(GOOD), ran(GOOD, **{name: value})), "different", name)
        for name in ERROR:
            self.assertEqual(verdict(ran(BAD), ran({**BAD, "error": {**ERROR, name: "other"}})), "different", name)
        for name in REQUEST:
            through = [StepRun(GOOD, [{**REQUEST, name: "other"}])]
            self.assertEqual(verdict(ran(GOOD), through), "different", name)

    def test_a_client_that_has_ended_is_never_the_same(self) -> None:
        ended = {**BAD, "error": {**ERROR, "class": "driver.ClientEnded"}}
        self.assertEqual(verdict(ran(ended), ran(ended)), "different")

    def test_nor_is_one_that_waits_without_having_called(self) -> None:
        waits = {**BAD, "error": {**ERROR, "class": "driver.StillWaiting"}}
        for calls, expected in [(0, "different"), (1, "same")]:
            self.assertEqual(verdict(ran(waits, calls), ran(waits, calls)), expected)

    def test_what_an_application_leaves_has_to_be_left_at_the_provider_too(self) -> None:
        for left, expected in [(1, "same"), (0, "different")]:
            direct, through = [StepRun(GOOD, [REQUEST], 1)], [StepRun(GOOD, [REQUEST], left)]
            self.assertEqual(verdict(direct, through), expected)
        # Unless it has left before anybody was asked.
        self.assertEqual(verdict([StepRun(GOOD, [], 0)], [StepRun(GOOD, [REQUEST], 1)]), "same")

    def test_more_calls_and_more_time_are_differences(self) -> None:
        self.assertEqual(verdict(ran(GOOD, 1), ran(GOOD, 2)), "different")
        for direct, through, expected in [
            (0.1, 0.3, "same"),
            (0.1, 0.4, "different"),
            (10, 10.9, "same"),
            (10, 11.2, "different"),
        ]:
            self.assertEqual(verdict(ran(GOOD, seconds=direct), ran(GOOD, seconds=through)), expected)

    def test_better_is_only_what_an_application_is_glad_of(self) -> None:
        self.assertEqual(verdict(ran(BAD), ran(GOOD, 4)), "better")
        self.assertEqual(verdict(ran(GOOD), ran(BAD)), "different")
        self.assertEqual(verdict(ran(BAD), ran(GOOD, text="Half of")), "different")
        # That an answer is not whole is told, where it is not.
        half = {**GOOD, "text": "Hello"}
        self.assertEqual(verdict(ran(half), ran({**half, "error": ERROR}), truncated=True), "better")
        self.assertEqual(verdict(ran(GOOD), ran({**GOOD, "error": ERROR})), "different")


class Tables(unittest.TestCase):
    def test_each_client_makes_calls_that_cases_have(self) -> None:
        cases = all_cases()
        for client in known_clients():
            self.assertTrue(any(client.makes(case) for case in cases), client.name)
            if client.short:
                self.assertTrue(any(client.makes(case) and case.short for case in cases), client.name)


if __name__ == "__main__":
    unittest.main()
