"""What a program that uses OpenAI's SDK sees of Spillway."""

import subprocess
import time

import openai
import pytest

from harness import CALLS_BY_DEFAULT, FAILURES_TO_OPEN, HELLO, MODEL, PAUSES_BY_DEFAULT_S, TEXT


def chat(client, **options):
    return client.chat.completions.create(model=MODEL, messages=HELLO, **options)


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


# Well.


def test_a_chat_completion_arrives_whole(openai_at):
    completion = chat(openai_at())
    assert completion.choices[0].message.content == TEXT
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_a_streamed_chat_completion_arrives_in_pieces_and_whole(openai_at):
    chunks = list(chat(openai_at(), stream=True))
    assert text_of(chunks) == TEXT
    assert len(chunks) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_usage_is_streamed_to_those_who_ask_and_hidden_from_others(openai_at):
    # This upstream has a token limit, so Spillway itself asks for usage in every stream.
    unasked = list(chat(openai_at("limited"), stream=True, max_tokens=10))
    assert text_of(unasked) == TEXT
    assert all(chunk.choices and chunk.usage is None for chunk in unasked)
    asked = list(chat(openai_at("limited"), stream=True, max_tokens=10, stream_options={"include_usage": True}))
    assert asked[-1].choices == []
    assert asked[-1].usage.total_tokens > 0


def test_embeddings_arrive(openai_at):
    embeddings = openai_at().embeddings.create(model=MODEL, input=["one", "two"])
    assert [len(item.embedding) for item in embeddings.data] == [8, 8]
    assert embeddings.data[1].embedding[0] == 0.25


def test_a_response_arrives_whole(openai_at):
    response = openai_at().responses.create(model=MODEL, input="Hello?")
    assert response.status == "completed"
    assert response.output_text == TEXT


def test_a_streamed_response_arrives_in_pieces_and_whole(openai_at):
    events = list(openai_at().responses.create(model=MODEL, input="Hello?", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == TEXT


def test_what_spillway_does_not_know_passes_through(openai_at):
    assert "mock-small" in [model.id for model in openai_at().models.list()]


@pytest.mark.parametrize("path", ["/openai/v1", "/openai", "/v1", ""])
def test_a_base_url_works_however_it_is_written(spillway, path):
    with openai.OpenAI(base_url=spillway.url + path, api_key="sk-test", max_retries=0) as client:
        assert chat(client).choices[0].message.content == TEXT


def test_the_exports_of_spillway_env_are_all_an_application_needs(spillway, provider, tmp_path, monkeypatch):
    config = tmp_path / "env.toml"
    config.write_text(f'[server]\nlisten = "{spillway.listen}"\n')
    exports = subprocess.run(
        [spillway.binary, "env", "--config", str(config)], check=True, capture_output=True, text=True
    ).stdout
    for line in exports.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        monkeypatch.setenv(name, value)
    with openai.OpenAI(api_key="sk-test", max_retries=0) as client:
        assert chat(client).choices[0].message.content == TEXT
    assert provider.requests() == 1


# Not well.


def test_the_providers_rate_limit_arrives_with_its_code_and_its_wait(openai_at, provider):
    # Longer than anybody waits within Spillway.
    provider.behaves("rate-limit?retry_after_s=20")
    with pytest.raises(openai.RateLimitError) as refused:
        chat(openai_at())
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] == "20"
    assert provider.requests() == 1


def test_the_providers_overload_arrives_as_the_provider_said_it(openai_at, provider):
    provider.behaves("overload")
    with pytest.raises(openai.InternalServerError) as refused:
        chat(openai_at())
    assert (refused.value.status_code, refused.value.code) == (503, "server_is_overloaded")


def test_an_open_circuit_refuses_without_calling_and_says_when_to_come_back(openai_at, provider):
    provider.behaves("fail")
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(openai.InternalServerError) as failed:
            chat(openai_at())
        assert "x-spillway-refusal" not in failed.value.response.headers
    with pytest.raises(openai.InternalServerError) as refused:
        chat(openai_at())
    assert (refused.value.status_code, refused.value.code, refused.value.type) == (
        failed.value.status_code,
        failed.value.code,
        failed.value.type,
    )
    assert refused.value.response.headers["x-spillway-refusal"] == "spillway_circuit_open"
    assert "Spillway" in refused.value.message
    assert "max_retries" in refused.value.message
    # A 202 would be an empty answer to this SDK.
    assert "Prefer" not in refused.value.message
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert provider.requests() == FAILURES_TO_OPEN


def test_an_sdk_that_retries_when_it_is_told_to_is_served_once_the_provider_is_well(openai_at, provider):
    provider.behaves("fail")
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(openai.InternalServerError):
            chat(openai_at())
    provider.behaves("heal")
    assert chat(openai_at(max_retries=2)).choices[0].message.content == TEXT
    assert provider.requests() == FAILURES_TO_OPEN + 1


def test_three_short_pauses_are_waited_for_and_the_program_sees_one_answer(openai_at, provider):
    # Directly, two retries are not enough for it.
    provider.behaves("rate-limit?retry_after_s=1&times=3")
    began = time.monotonic()
    chat(openai_at("untouched", max_retries=2))
    assert time.monotonic() - began <= 3 * 1.1 + 0.2
    assert provider.requests() == 4


def test_a_spent_quota_is_the_same_error_each_time_and_nobody_is_asked_again(openai_at, provider):
    provider.behaves("spent-quota")
    for _ in range(3):
        with pytest.raises(openai.RateLimitError) as refused:
            chat(openai_at("untouched", max_retries=0))
        assert (refused.value.type, refused.value.code) == ("insufficient_quota", "credit_balance_exhausted")
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        chat(openai_at("untouched", max_retries=2))
    assert time.monotonic() - began < 0.4, "it is told not to try again"
    assert provider.requests() == 1


def test_the_sdks_retries_and_spillways_do_not_multiply(openai_at, provider):
    provider.behaves("fail?status=500")
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError):
        chat(openai_at("untouched", max_retries=2))
    assert time.monotonic() - began <= PAUSES_BY_DEFAULT_S * 1.1 + 0.2
    assert provider.requests() <= CALLS_BY_DEFAULT + 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_programs_own_timeout_stays_its_own(openai_at, provider, stream):
    provider.behaves("slow?ms=8000")
    with pytest.raises(openai.APITimeoutError):
        chat(openai_at("untouched").with_options(timeout=1), stream=stream)
    assert provider.requests() == 1


def test_a_used_up_token_limit_is_a_rate_limit_with_an_honest_wait(openai_at, provider):
    # Four bytes a token: this takes most of the 1,000 tokens a minute, and a second one has to wait for it.
    long = [{"role": "user", "content": "word " * 640}]
    client = openai_at("limited")
    client.chat.completions.create(model=MODEL, messages=long, max_tokens=10)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model=MODEL, messages=long, max_tokens=10)
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "tokens")
    assert 30 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert provider.requests() == 1


@pytest.mark.parametrize("size", [(1 << 20) + 1, 16 << 20])
def test_an_oversized_body_is_refused_as_such(openai_at, provider, size):
    with pytest.raises(openai.APIStatusError) as refused:
        openai_at().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * size}])
    assert (refused.value.status_code, refused.value.code) == (413, "spillway_body_too_large")
    assert provider.requests() == 0


def test_a_chat_stream_that_breaks_raises_after_what_had_arrived(openai_at, provider):
    provider.behaves("cut-stream")
    chunks = []
    with pytest.raises(openai.APIError) as broken:
        for chunk in chat(openai_at(), stream=True):
            chunks.append(chunk)
    assert broken.value.code == "spillway_stream_cut"
    assert TEXT.startswith(text_of(chunks)) and 0 < len(text_of(chunks)) < len(TEXT)


def test_a_response_stream_that_breaks_never_looks_complete(openai_at, provider):
    provider.behaves("cut-stream")
    with pytest.raises(openai.APIError):
        list(openai_at().responses.create(model=MODEL, input="Hello?", stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_an_unreachable_upstream_is_a_bad_gateway(openai_at, stream):
    with pytest.raises(openai.APIStatusError) as refused:
        chat(openai_at("gone"), stream=stream)
    assert (refused.value.status_code, refused.value.code) == (502, "spillway_upstream_unreachable")


def test_an_error_dressed_as_a_success_is_an_error_where_a_policy_says_so(openai_at, provider):
    provider.behaves("error-in-200")
    with pytest.raises(openai.InternalServerError) as refused:
        chat(openai_at("masked"))
    assert refused.value.code == "spillway_upstream_failed"
