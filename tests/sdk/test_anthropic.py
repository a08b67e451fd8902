"""What a program that uses Anthropic's SDK sees of Spillway."""

import time

import anthropic
import pytest

from harness import CALLS_BY_DEFAULT, FAILURES_TO_OPEN, HELLO, MODEL, PAUSES_BY_DEFAULT_S, TEXT


def message(client, **options):
    return client.messages.create(**({"model": MODEL, "max_tokens": 64, "messages": HELLO} | options))


# Well.


def test_a_message_arrives_whole(anthropic_at):
    answer = message(anthropic_at())
    assert answer.content[0].text == TEXT
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


def test_a_streamed_message_arrives_in_pieces_and_whole(anthropic_at):
    events = list(message(anthropic_at(), stream=True))
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(pieces) == TEXT
    assert len(pieces) > 1
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_the_sdks_stream_helper_puts_the_message_together(anthropic_at):
    with anthropic_at().messages.stream(model=MODEL, max_tokens=64, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().stop_reason == "end_turn"


def test_what_spillway_does_not_know_passes_through(anthropic_at):
    assert anthropic_at().messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0


@pytest.mark.parametrize("path", ["/anthropic", "/anthropic/v1", ""])
def test_a_base_url_works_however_it_is_written(spillway, path):
    with anthropic.Anthropic(base_url=spillway.url + path, api_key="sk-test", max_retries=0) as client:
        assert message(client).content[0].text == TEXT


# Not well.


def test_the_providers_rate_limit_arrives_with_its_type_and_its_wait(anthropic_at, provider):
    # Longer than anybody waits within Spillway.
    provider.behaves("rate-limit?retry_after_s=20")
    with pytest.raises(anthropic.RateLimitError) as refused:
        message(anthropic_at())
    assert refused.value.type == "rate_limit_error"
    assert refused.value.response.headers["retry-after"] == "20"
    assert provider.requests() == 1


def test_the_providers_overload_arrives_as_the_provider_said_it(anthropic_at, provider):
    provider.behaves("overload")
    with pytest.raises(anthropic.OverloadedError) as refused:
        message(anthropic_at())
    assert (refused.value.status_code, refused.value.type) == (529, "overloaded_error")


def test_an_open_circuit_refuses_without_calling_and_says_when_to_come_back(anthropic_at, provider):
    provider.behaves("fail")
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(anthropic.InternalServerError) as failed:
            message(anthropic_at())
        assert "x-spillway-refusal" not in failed.value.response.headers
    with pytest.raises(type(failed.value)) as refused:
        message(anthropic_at())
    assert (refused.value.status_code, refused.value.type) == (failed.value.status_code, failed.value.type)
    assert refused.value.response.headers["x-spillway-refusal"] == "spillway_circuit_open"
    assert "Spillway" in refused.value.message
    assert "max_retries" in refused.value.message and "Prefer" not in refused.value.message
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert provider.requests() == FAILURES_TO_OPEN


def test_an_sdk_that_retries_when_it_is_told_to_is_served_once_the_provider_is_well(anthropic_at, provider):
    provider.behaves("fail")
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(anthropic.InternalServerError):
            message(anthropic_at())
    provider.behaves("heal")
    assert message(anthropic_at(max_retries=2)).content[0].text == TEXT
    assert provider.requests() == FAILURES_TO_OPEN + 1


def test_three_short_pauses_are_waited_for_and_the_program_sees_one_answer(anthropic_at, provider):
    # Directly, two retries are not enough for it.
    provider.behaves("rate-limit?retry_after_s=1&times=3")
    began = time.monotonic()
    message(anthropic_at("untouched-anthropic", max_retries=2))
    assert time.monotonic() - began <= 3 * 1.1 + 0.2
    assert provider.requests() == 4


def test_a_spent_quota_is_the_same_error_each_time_and_nobody_is_asked_again(anthropic_at, provider):
    provider.behaves("spent-quota")
    for _ in range(3):
        with pytest.raises(anthropic.RateLimitError) as refused:
            message(anthropic_at("untouched-anthropic", max_retries=0))
        assert (refused.value.type, refused.value.error_code) == ("rate_limit_error", "enforced_spend_limit_reached")
    began = time.monotonic()
    with pytest.raises(anthropic.RateLimitError):
        message(anthropic_at("untouched-anthropic", max_retries=2))
    assert time.monotonic() - began < 0.4, "it is told not to try again"
    assert provider.requests() == 1


def test_the_sdks_retries_and_spillways_do_not_multiply(anthropic_at, provider):
    provider.behaves("fail?status=500")
    began = time.monotonic()
    with pytest.raises(anthropic.InternalServerError):
        message(anthropic_at("untouched-anthropic", max_retries=2))
    assert time.monotonic() - began <= PAUSES_BY_DEFAULT_S * 1.1 + 0.2
    assert provider.requests() <= CALLS_BY_DEFAULT + 1


def test_the_programs_own_timeout_stays_its_own(anthropic_at, provider):
    provider.behaves("slow?ms=8000")
    with pytest.raises(anthropic.APITimeoutError):
        message(anthropic_at("untouched-anthropic").with_options(timeout=1))
    assert provider.requests() == 1


def test_a_used_up_token_limit_is_a_rate_limit_with_an_honest_wait(anthropic_at, provider):
    # Four bytes a token: this takes most of the 1,000 tokens a minute, and a second one has to wait for it.
    long = [{"role": "user", "content": "word " * 640}]
    client = anthropic_at("limited-anthropic")
    message(client, messages=long, max_tokens=10)
    with pytest.raises(anthropic.RateLimitError) as refused:
        message(client, messages=long, max_tokens=10)
    assert (refused.value.type, refused.value.error_code) == ("rate_limit_error", "rate_limit_exceeded")
    assert 30 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert provider.requests() == 1


@pytest.mark.parametrize("size", [(1 << 20) + 1, 16 << 20])
def test_an_oversized_body_is_refused_as_such(anthropic_at, provider, size):
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        message(anthropic_at(), messages=[{"role": "user", "content": "x" * size}])
    assert (refused.value.status_code, refused.value.error_code) == (413, "spillway_body_too_large")
    assert provider.requests() == 0


def test_a_stream_that_breaks_never_looks_complete(anthropic_at, provider):
    provider.behaves("cut-stream")
    with pytest.raises(anthropic.APIError):
        list(message(anthropic_at(), stream=True))


def test_an_unreachable_upstream_is_a_bad_gateway(anthropic_at):
    with pytest.raises(anthropic.InternalServerError) as refused:
        message(anthropic_at("gone-anthropic"))
    assert (refused.value.status_code, refused.value.error_code) == (502, "spillway_upstream_unreachable")
