"""The official `google-genai` library, newest and old."""

from __future__ import annotations

import base64
from typing import Any

from google import genai
from google.genai import types

from protocol import PNG_BASE64, TOOL_DESCRIPTION, TOOL_NAME, TOOL_PARAMETERS, Request, Seen, left_early, serve


def client(request: Request) -> genai.Client:
    options: dict[str, Any] = {"base_url": request.base_url}
    if request.option("timeout_s") is not None:
        options["timeout"] = int(request.option("timeout_s") * 1000)
    # The library repeats nothing by itself; it counts attempts where others count repetitions.
    if request.option("max_retries"):
        options["retry_options"] = types.HttpRetryOptions(attempts=request.option("max_retries") + 1, initial_delay=0.5)
    if request.option("headers"):
        options["headers"] = request.option("headers")
    return genai.Client(api_key=request.api_key, http_options=types.HttpOptions(**options))


def arguments(request: Request) -> dict[str, Any]:
    contents: list[Any] = [request.prompt]
    if request.option("image"):
        contents.append(types.Part.from_bytes(data=base64.b64decode(PNG_BASE64), mime_type="image/png"))
    config: dict[str, Any] = {}
    if request.option("n") is not None:
        config["candidate_count"] = request.option("n")
    if request.option("tools"):
        function = {"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters_json_schema": TOOL_PARAMETERS}
        config["tools"] = [types.Tool(function_declarations=[types.FunctionDeclaration(**function)])]
    made: dict[str, Any] = {"model": request.model, "contents": contents}
    if config:
        made["config"] = types.GenerateContentConfig(**config)
    return made


def read(answer: types.GenerateContentResponse, seen: Seen) -> None:
    for index, candidate in enumerate(answer.candidates or []):
        for part in (candidate.content and candidate.content.parts) or []:
            if part.function_call:
                seen.call_tool(part.function_call.name, dict(part.function_call.args or {}))
            else:
                seen.say(part.text, candidate.index or index)
        if candidate.finish_reason:
            seen.finish = candidate.finish_reason.value
    usage = answer.usage_metadata
    if usage:
        seen.use(usage.prompt_token_count, usage.candidates_token_count)


def generate(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    read(made.models.generate_content(**arguments(request)), seen)


def generate_stream(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    for chunk in made.models.generate_content_stream(**arguments(request)):
        count = seen.event()
        read(chunk, seen)
        if left_early(request, count):
            break


def count_tokens(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.models.count_tokens(model=request.model, contents=request.prompt)
    seen.note("total_tokens", answer.total_tokens)


def embeddings(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.models.embed_content(model=request.model, contents=[request.prompt, "Again."])
    seen.note("vectors", [len(one.values or []) for one in answer.embeddings or []])


def models(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("models", [model.name for model in made.models.list()])


CALLS = [generate, generate_stream, count_tokens, embeddings, models]

if __name__ == "__main__":
    serve({("gemini", call.__name__): call for call in CALLS})
