"""The official `anthropic` library, newest and old."""

from __future__ import annotations

from typing import Any

import anthropic

from protocol import PNG_BASE64, TOOL_DESCRIPTION, TOOL_NAME, TOOL_PARAMETERS, Request, Seen, left_early, serve

MAX_TOKENS = 1024


def client(request: Request) -> anthropic.Anthropic:
    options: dict[str, Any] = {}
    if request.option("max_retries") is not None:
        options["max_retries"] = request.option("max_retries")
    if request.option("timeout_s") is not None:
        options["timeout"] = request.option("timeout_s")
    headers = request.option("headers")
    return anthropic.Anthropic(base_url=request.base_url, api_key=request.api_key, default_headers=headers, **options)


def arguments(request: Request) -> dict[str, Any]:
    content: Any = request.prompt
    if request.option("image"):
        source = {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}
        content = [{"type": "image", "source": source}, {"type": "text", "text": request.prompt}]
    made: dict[str, Any] = {"model": request.model, "messages": [{"role": "user", "content": content}]}
    if request.option("tools"):
        made["tools"] = [{"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "input_schema": TOOL_PARAMETERS}]
    return made


def read_message(message: Any, seen: Seen) -> None:
    if isinstance(message, str):
        seen.say(message)
        return
    for block in message.content or []:
        if block.type == "text":
            seen.say(block.text)
        elif block.type == "tool_use":
            seen.call_tool(block.name, block.input)
    seen.finish = message.stop_reason
    if message.usage:
        seen.use(message.usage.input_tokens, message.usage.output_tokens)


def messages(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    read_message(made.messages.create(max_tokens=MAX_TOKENS, **arguments(request)), seen)


def messages_stream(request: Request, seen: Seen) -> None:
    """The raw events."""
    made = client(request)
    calls: dict[int, list[str]] = {}
    seen.start()
    with made.messages.create(max_tokens=MAX_TOKENS, stream=True, **arguments(request)) as stream:
        for event in stream:
            count = seen.event()
            if event.type == "message_start":
                seen.use(event.message.usage.input_tokens, event.message.usage.output_tokens)
            elif event.type == "content_block_start" and event.content_block.type == "tool_use":
                calls[event.index] = [event.content_block.name, ""]
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                seen.say(event.delta.text)
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                calls[event.index][1] += event.delta.partial_json
            elif event.type == "message_delta":
                seen.finish = event.delta.stop_reason
                seen.use((seen.usage or {}).get("input"), event.usage.output_tokens)
            if left_early(request, count):
                break
    for name, text in calls.values():
        seen.call_tool(name, text)


def messages_helper(request: Request, seen: Seen) -> None:
    """The library's own accumulator over a stream."""
    made = client(request)
    seen.start()
    with made.messages.stream(max_tokens=MAX_TOKENS, **arguments(request)) as stream:
        for piece in stream.text_stream:
            count = seen.event()
            seen.say(piece)
            if left_early(request, count):
                return
        message = stream.get_final_message()
    seen.texts.clear()
    read_message(message, seen)


def count_tokens(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("input_tokens", made.messages.count_tokens(**arguments(request)).input_tokens)


def models(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("models", [model.id for model in made.models.list()])


def upload(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.beta.files.upload(file=("a.txt", b"A line.\n" * 50_000, "text/plain"))
    seen.note("file", [answer.id, answer.filename])


def batches(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("batches", [batch.id for batch in made.messages.batches.list()])


CALLS = [messages, messages_stream, messages_helper, count_tokens, models, upload, batches]

if __name__ == "__main__":
    serve({("anthropic", call.__name__): call for call in CALLS})
