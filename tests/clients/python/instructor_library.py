"""`instructor`: answers as objects, by tool calls, over the official libraries."""

from __future__ import annotations

import anthropic
import instructor
import openai
from pydantic import BaseModel

import anthropic_sdk
import openai_sdk
from protocol import Request, Seen, serve


class Weather(BaseModel):
    """What is asked for."""

    city: str


def structured(request: Request, seen: Seen) -> None:
    messages = [{"role": "user", "content": request.prompt}]
    if request.dialect == "openai":
        made = instructor.from_openai(openai_sdk.client(request))
        more = {}
    else:
        made = instructor.from_anthropic(anthropic_sdk.client(request))
        more = {"max_tokens": 1024}
    seen.start()
    answer, raw = made.chat.completions.create_with_completion(
        model=request.model, messages=messages, response_model=Weather, **more
    )
    seen.call_tool("Weather", answer.model_dump())
    usage = raw.usage
    if isinstance(raw, anthropic.types.Message):
        seen.use(usage.input_tokens, usage.output_tokens)
    elif isinstance(raw, openai.types.chat.ChatCompletion):
        seen.use(usage.prompt_tokens, usage.completion_tokens)


if __name__ == "__main__":
    serve({("openai", "structured"): structured, ("anthropic", "structured"): structured})
