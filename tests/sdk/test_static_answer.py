"""What SDKs make of the text that an operator has answered where nobody serves."""

import anthropic
import openai
import pytest

from harness import DEGRADED, HELLO, MODEL, STATIC_TEXT

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def test_a_chat_completion_is_whole(openai_at):
    answers = openai_at().chat.completions
    completion = answers.create(model=MODEL, messages=HELLO, n=2, extra_headers=DEGRADED)
    assert [choice.message.content for choice in completion.choices] == [STATIC_TEXT] * 2
    assert (completion.choices[0].finish_reason, completion.model) == ("stop", MODEL)
    assert completion.usage.total_tokens == 0


def test_a_streamed_chat_completion_is_whole(openai_at):
    options = {"model": MODEL, "messages": HELLO, "stream": True, "extra_headers": DEGRADED}
    chunks = list(openai_at().chat.completions.create(**options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == STATIC_TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    *_, last = openai_at().chat.completions.create(**options, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens) == ([], 0)


def test_a_text_completion_is_whole(openai_at):
    options = {"model": MODEL, "prompt": "Hello", "extra_headers": DEGRADED}
    assert openai_at().completions.create(**options).choices[0].text == STATIC_TEXT
    chunks = openai_at().completions.create(**options, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == STATIC_TEXT


def test_a_response_is_whole(openai_at):
    response = openai_at().responses.create(model=MODEL, input="Hello?", extra_headers=DEGRADED)
    assert (response.status, response.output_text, response.model) == ("completed", STATIC_TEXT, MODEL)
    assert response.usage.total_tokens == 0


def test_the_sdks_stream_helper_puts_a_response_together(openai_at):
    with openai_at().responses.stream(model=MODEL, input="Hello?", extra_headers=DEGRADED) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(pieces) == STATIC_TEXT
        assert stream.get_final_response().output_text == STATIC_TEXT


def test_a_message_is_whole(anthropic_at):
    answer = anthropic_at().messages.create(model=MODEL, max_tokens=64, messages=HELLO, extra_headers=DEGRADED)
    assert (answer.content[0].text, answer.stop_reason, answer.model) == (STATIC_TEXT, "end_turn", MODEL)
    assert answer.usage.output_tokens == 0


def test_the_sdks_stream_helper_puts_a_message_together(anthropic_at):
    options = {"model": MODEL, "max_tokens": 64, "messages": HELLO, "extra_headers": DEGRADED}
    with anthropic_at().messages.stream(**options) as stream:
        assert "".join(stream.text_stream) == STATIC_TEXT
        assert stream.get_final_message().stop_reason == "end_turn"


def test_whoever_wants_tools_is_told_that_nobody_serves(openai_at, anthropic_at):
    with pytest.raises(openai.APIStatusError):
        openai_at().chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL], extra_headers=DEGRADED)
    tools = [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    with pytest.raises(anthropic.APIStatusError):
        anthropic_at().messages.create(
            model=MODEL, max_tokens=64, messages=HELLO, tools=tools, extra_headers=DEGRADED
        )
