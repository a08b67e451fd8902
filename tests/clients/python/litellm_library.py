"""`litellm` as a library in the application's own process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

# Its table of prices is read from the package; nothing is asked of the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import openai  # noqa: E402
from litellm.llms.custom_httpx.http_handler import HTTPHandler  # noqa: E402

from protocol import PNG_BASE64, TOOL_DESCRIPTION, TOOL_NAME, TOOL_PARAMETERS, Request, Seen, left_early, serve  # noqa: E402

litellm.suppress_debug_info = True
litellm.telemetry = False
# What this imports would else be imported by the first calls, all at once, and by some of them half.
openai.OpenAI(api_key="none").close()


@contextlib.contextmanager
def own_pool(request: Request) -> Iterator[dict[str, Any]]:
    """The argument by which a call has a pool of connections of its own.

    All calls to Anthropic and Gemini would share one, those of other cases too. A stream that was left in the middle
    is given back to it whenever the garbage is collected: where that happens while the same thread holds the pool's
    lock, all calls wait for ever.
    """
    if request.dialect == "openai":
        yield {}
        return
    client = HTTPHandler()
    try:
        yield {"client": client}
    finally:
        client.close()


def arguments(request: Request) -> dict[str, Any]:
    base_url = f"{request.base_url}/v1" if request.dialect == "openai" else request.base_url
    if request.dialect == "gemini":
        base_url = f"{request.base_url}/v1beta"
    made: dict[str, Any] = {
        "model": f"{request.dialect}/{request.model}",
        "api_base": base_url,
        "api_key": request.api_key,
    }
    if request.option("max_retries") is not None:
        made["max_retries"] = request.option("max_retries")
    if request.option("timeout_s") is not None:
        made["timeout"] = request.option("timeout_s")
    if request.option("headers"):
        made["extra_headers"] = request.option("headers")
    return made


def chat_arguments(request: Request) -> dict[str, Any]:
    made = arguments(request)
    content: Any = request.prompt
    if request.option("image"):
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}}
        content = [{"type": "text", "text": request.prompt}, picture]
    made["messages"] = [{"role": "user", "content": content}]
    if request.option("n") is not None:
        made["n"] = request.option("n")
    if request.option("tools"):
        function = {"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters": TOOL_PARAMETERS}
        made["tools"] = [{"type": "function", "function": function}]
    return made


def whole(request: Request, seen: Seen) -> None:
    made = chat_arguments(request)
    seen.start()
    with own_pool(request) as pool:
        answer = litellm.completion(**made, **pool)
    for choice in answer.choices:
        seen.say(choice.message.content, choice.index)
        seen.finish = choice.finish_reason
        for call in choice.message.tool_calls or []:
            seen.call_tool(call.function.name, call.function.arguments)
    if answer.usage:
        seen.use(answer.usage.prompt_tokens, answer.usage.completion_tokens)


def stream(request: Request, seen: Seen) -> None:
    with own_pool(request) as pool:
        read_stream(request, pool, seen)


def read_stream(request: Request, pool: dict[str, Any], seen: Seen) -> None:
    made = {**chat_arguments(request), **pool}
    calls: dict[int, list[str]] = {}
    seen.start()
    for chunk in litellm.completion(**made, stream=True, stream_options={"include_usage": True}):
        count = seen.event()
        for choice in chunk.choices:
            seen.say(choice.delta.content, choice.index)
            seen.finish = choice.finish_reason or seen.finish
            for call in choice.delta.tool_calls or []:
                parts = calls.setdefault(call.index, ["", ""])
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
        usage = getattr(chunk, "usage", None)
        if usage:
            seen.use(usage.prompt_tokens, usage.completion_tokens)
        if left_early(request, count):
            break
    for name, text in calls.values():
        seen.call_tool(name, text)


def embeddings(request: Request, seen: Seen) -> None:
    made = arguments(request)
    seen.start()
    answer = litellm.embedding(input=[request.prompt, "Again."], **made)
    seen.note("vectors", [len(one["embedding"]) for one in answer.data])


if __name__ == "__main__":
    serve(
        {
            ("openai", "chat"): whole,
            ("openai", "chat_stream"): stream,
            ("openai", "embeddings"): embeddings,
            ("anthropic", "messages"): whole,
            ("anthropic", "messages_stream"): stream,
            ("gemini", "generate"): whole,
            ("gemini", "generate_stream"): stream,
        }
    )
