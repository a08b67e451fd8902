"""What programs that use the SDKs see of the guards against runaway agents: one error that says what to do, and no
storm of repetitions, though the SDKs are left to repeat as they do by default."""

import anthropic
import openai
import pytest

from harness import MODEL, Spillway, refusing_socket

RETRIES_BY_DEFAULT = 2
GUARDS = """
[guards]
max_tokens_per_request = 20_000
max_turns_per_conversation = 3
max_tokens_per_hour = 1_000_000
max_repeats = 4
"""


@pytest.fixture
def spillway(provider, tmp_path):
    with refusing_socket() as gone:
        unreachable = f"http://127.0.0.1:{gone.getsockname()[1]}"
        spillway = Spillway(provider.url, unreachable, tmp_path, more=GUARDS)
        yield spillway
        spillway.stop()


def conversation(turns: int) -> list:
    """What an agent has said and heard before its so-many-th turn."""
    messages = [{"role": "user", "content": "Mend the tests."}]
    for turn in range(1, turns):
        messages.append({"role": "assistant", "content": f"Step {turn} is done."})
        messages.append({"role": "user", "content": f"They still fail, {turn}."})
    return messages


def refused_by_openai(spillway, provider, error, messages, **options):
    before = provider.requests()
    with openai.OpenAI(
        base_url=f"{spillway.url}/v1", api_key="sk-test", max_retries=RETRIES_BY_DEFAULT, timeout=30
    ) as client:
        with pytest.raises(error) as refused:
            client.chat.completions.create(model=MODEL, messages=messages, **options)
    assert provider.requests() == before
    return refused.value


def refusals(spillway) -> float:
    return spillway.metric('spillway_requests_total{upstream="openai",outcome="refused"}') + spillway.metric(
        'spillway_requests_total{upstream="anthropic",outcome="refused"}'
    )


def test_an_agent_by_openais_sdk_that_runs_away_is_stopped_once(spillway, provider):
    with openai.OpenAI(base_url=f"{spillway.url}/v1", api_key="sk-test", max_retries=0, timeout=30) as client:
        for turn in range(1, 4):
            assert client.chat.completions.create(model=MODEL, messages=conversation(turn)).choices
    error = refused_by_openai(spillway, provider, openai.BadRequestError, conversation(4))
    assert error.code == "spillway_guard_max_turns_per_conversation"
    assert "guards.max_turns_per_conversation" in error.message
    # Asked once by the SDK, which has not repeated it.
    assert refusals(spillway) == 1


def test_a_loop_by_openais_sdk_is_stopped_once(spillway, provider):
    hello = [{"role": "user", "content": "Is it done?"}]
    with openai.OpenAI(base_url=f"{spillway.url}/v1", api_key="sk-test", max_retries=0, timeout=30) as client:
        for _ in range(4):
            assert client.chat.completions.create(model=MODEL, messages=hello).choices
    error = refused_by_openai(spillway, provider, openai.BadRequestError, hello)
    assert error.code == "spillway_guard_max_repeats"
    assert refusals(spillway) == 1


def test_a_request_that_is_too_large_is_stopped_once(spillway, provider):
    error = refused_by_openai(spillway, provider, openai.BadRequestError, conversation(1), max_tokens=30_000)
    assert error.code == "spillway_guard_max_tokens_per_request"
    assert refusals(spillway) == 1


def test_an_agent_by_anthropics_sdk_that_runs_away_is_stopped_once(spillway, provider):
    with anthropic.Anthropic(
        base_url=spillway.url, api_key="sk-test", max_retries=RETRIES_BY_DEFAULT, timeout=30
    ) as client:
        for turn in range(1, 4):
            assert client.messages.create(model=MODEL, max_tokens=64, messages=conversation(turn)).content
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.messages.create(model=MODEL, max_tokens=64, messages=conversation(4))
        assert "guards.max_turns_per_conversation" in str(refused.value)
    assert (provider.requests(), refusals(spillway)) == (3, 1)


def test_what_may_be_used_within_an_hour_is_a_rate_limit_that_is_not_tried_again(provider, tmp_path):
    with refusing_socket() as gone:
        unreachable = f"http://127.0.0.1:{gone.getsockname()[1]}"
        spillway = Spillway(provider.url, unreachable, tmp_path, more="\n[guards]\nmax_tokens_per_hour = 1\n")
        try:
            with openai.OpenAI(base_url=f"{spillway.url}/v1", api_key="sk-test", max_retries=0) as client:
                assert client.chat.completions.create(model=MODEL, messages=conversation(1)).choices
            error = refused_by_openai(spillway, provider, openai.RateLimitError, conversation(2))
            assert error.code == "spillway_guard_max_tokens_per_hour"
            assert refusals(spillway) == 1
        finally:
            spillway.stop()
