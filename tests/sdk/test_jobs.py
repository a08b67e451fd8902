"""Requests that outlive an outage, asked for with the SDKs' own means: `extra_headers` and `with_raw_response`."""

from anthropic.types import Message
from openai.types.chat import ChatCompletion

from harness import HELLO, MODEL, TEXT, eventually

ASYNC = {"Prefer": "respond-async"}


def finished(spillway, location):
    """The job once it is done; anything else that is final fails the test at once."""

    def look():
        job = spillway.job(location)
        assert job["status"] in ("queued", "running", "done"), job
        return job if job["status"] == "done" else None

    return eventually("the job to be done", look)


def test_a_chat_completion_survives_an_outage(openai_at, provider, spillway):
    provider.behaves("fail")
    accepted = openai_at().chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, extra_headers=ASYNC)
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert int(accepted.headers["retry-after"]) >= 1
    assert spillway.job(accepted.headers["location"])["status"] in ("queued", "running")

    provider.behaves("heal")
    job = finished(spillway, accepted.headers["location"])
    assert job["response"]["status"] == 200
    assert ChatCompletion.model_validate(job["response"]["body"]).choices[0].message.content == TEXT


def test_a_message_survives_an_outage(anthropic_at, provider, spillway):
    provider.behaves("fail")
    accepted = anthropic_at().messages.with_raw_response.create(
        model=MODEL, max_tokens=64, messages=HELLO, extra_headers=ASYNC
    )
    assert accepted.status_code == 202
    provider.behaves("heal")
    job = finished(spillway, accepted.headers["location"])
    assert Message.model_validate(job["response"]["body"]).content[0].text == TEXT


def test_a_healthy_provider_answers_at_once_whatever_is_preferred(openai_at):
    answer = openai_at().chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, extra_headers=ASYNC)
    assert answer.status_code == 200
    assert answer.parse().choices[0].message.content == TEXT
