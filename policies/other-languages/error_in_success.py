"""Takes a 200 whose body is an error for what it is, as policies/error-in-success does in Rust."""

import json

from wit_world.exports.classifier import Advice, Class, Scope, Verdict
from wit_world.exports.description import Description as About
from wit_world.exports.description import Hooks

throttle_codes = []


class Description:
    def describe(self):
        summary = "Takes a 200 whose body is an error for what it is"
        return About("error-in-success", "0.1.0", summary, Hooks.CLASSIFY)

    def configure(self, settings):
        global throttle_codes
        throttle_codes = json.loads(settings or "{}").get("throttle_codes", [])


class Classifier:
    def classify(self, attempt):
        # What a stream says, the built-in policy knows better.
        if attempt.streaming() or attempt.fault() is not None or (attempt.status() or 0) // 100 != 2:
            return None
        error = attempt.provider_error()
        if error is None:
            return None
        # Of a rate limit: this model under this credential. Of a failure: this model for everybody.
        if error.code in throttle_codes or error.kind in throttle_codes:
            wait = attempt.retry_after_ms()
            return Verdict(Class.THROTTLED, Scope.MODEL, Advice.RETRY, wait, "200 with a rate limit")
        return Verdict(Class.FAILURE, Scope.MODEL, Advice.RETRY, None, "200 with an error")


class Retrying:
    def backoff(self, attempt, verdict):
        return None


class Tripping:
    def trip(self, window):
        return None
