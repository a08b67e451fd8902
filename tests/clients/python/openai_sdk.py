"""The official `openai` library, newest and old."""

from __future__ import annotations

from typing import Any

import openai

from protocol import PNG_BASE64, TOOL_DESCRIPTION, TOOL_NAME, TOOL_PARAMETERS, Request, Seen, left_early, serve


def client(request: Request) -> openai.OpenAI:
    options: dict[str, Any] = {}
    if request.option("max_retries") is not None:
        options["max_retries"] = request.option("max_retries")
    if request.option("timeout_s") is not None:
        options["timeout"] = request.option("timeout_s")
    headers = request.option("headers")
    made = openai.OpenAI(base_url=f"{request.base_url}/v1", api_key=request.api_key, default_headers=headers, **options)
    return made


def chat_arguments(request: Request) -> dict[str, Any]:
    content: Any = request.prompt
    if request.option("image"):
        url = f"data:image/png;base64,{PNG_BASE64}"
        content = [{"type": "text", "text": request.prompt}, {"type": "image_url", "image_url": {"url": url}}]
    arguments: dict[str, Any] = {"model": request.model, "messages": [{"role": "user", "content": content}]}
    if request.option("n") is not None:
        arguments["n"] = request.option("n")
    if request.option("tools"):
        function = {"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters": TOOL_PARAMETERS}
        arguments["tools"] = [{"type": "function", "function": function}]
    return arguments


def is_text(answer: Any, seen: Seen) -> bool:
    """What is no JSON is given to the application as a text."""
    if isinstance(answer, str):
        seen.say(answer)
    return isinstance(answer, str)


def chat(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.chat.completions.create(**chat_arguments(request))
    if is_text(answer, seen):
        return
    for choice in answer.choices or []:
        seen.say(choice.message.content, choice.index)
        seen.finish = choice.finish_reason
        for call in choice.message.tool_calls or []:
            seen.call_tool(call.function.name, call.function.arguments)
    if answer.usage:
        seen.use(answer.usage.prompt_tokens, answer.usage.completion_tokens)


def chat_stream(request: Request, seen: Seen) -> None:
    made = client(request)
    arguments = chat_arguments(request)
    calls: dict[int, list[str]] = {}
    seen.start()
    with made.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}) as stream:
        for chunk in stream:
            count = seen.event()
            for choice in chunk.choices or []:
                seen.say(choice.delta.content, choice.index)
                seen.finish = choice.finish_reason or seen.finish
                for call in choice.delta.tool_calls or []:
                    parts = calls.setdefault(call.index, ["", ""])
                    parts[0] += call.function.name or ""
                    parts[1] += call.function.arguments or ""
            if chunk.usage:
                seen.use(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            if left_early(request, count):
                break
    for name, text in calls.values():
        seen.call_tool(name, text)


def responses_arguments(request: Request) -> dict[str, Any]:
    content: Any = request.prompt
    if request.option("image"):
        picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG_BASE64}", "detail": "auto"}
        content = [{"role": "user", "content": [{"type": "input_text", "text": request.prompt}, picture]}]
    arguments: dict[str, Any] = {"model": request.model, "input": content}
    if request.option("tools"):
        tool = {"type": "function", "name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters": TOOL_PARAMETERS}
        arguments["tools"] = [{**tool, "strict": False}]
    return arguments


def read_response(answer: Any, seen: Seen) -> None:
    if is_text(answer, seen):
        return
    seen.note("status", answer.status)
    for item in answer.output or []:
        if item.type == "function_call":
            seen.call_tool(item.name, item.arguments)
    seen.say(answer.output_text if answer.output else None)
    if answer.usage:
        seen.use(answer.usage.input_tokens, answer.usage.output_tokens)


def responses(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    read_response(made.responses.create(**responses_arguments(request)), seen)


def responses_stream(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    with made.responses.create(**responses_arguments(request), stream=True) as stream:
        for event in stream:
            count = seen.event()
            if event.type == "response.output_text.delta":
                seen.say(event.delta)
            elif event.type == "response.output_item.done" and event.item.type == "function_call":
                seen.call_tool(event.item.name, event.item.arguments)
            elif event.type in ("response.completed", "response.failed", "response.incomplete"):
                seen.finish = event.type
                if event.response.usage:
                    seen.use(event.response.usage.input_tokens, event.response.usage.output_tokens)
                if event.response.error:
                    seen.note("failed", event.response.error.message)
            elif event.type == "error":
                seen.note("error", event.message)
            if left_early(request, count):
                break


def completions(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.completions.create(model=request.model, prompt=request.prompt)
    if not is_text(answer, seen):
        for choice in answer.choices or []:
            seen.say(choice.text, choice.index)


def embeddings(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.embeddings.create(model=request.model, input=[request.prompt, "Again."])
    seen.note("vectors", [len(one.embedding) for one in answer.data])
    seen.use(answer.usage.prompt_tokens, 0)


def models(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("models", [model.id for model in made.models.list()])


def images(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.images.generate(model=request.model, prompt=request.prompt)
    seen.note("images", [image.b64_json or image.url for image in answer.data or []])


def image_edit(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.images.edit(model=request.model, prompt=request.prompt, image=("a.png", bytes(range(256)) * 400))
    seen.note("images", [image.b64_json or image.url for image in answer.data or []])


def audio_speech(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.audio.speech.create(model=request.model, voice="alloy", input=request.prompt)
    seen.note("bytes", answer.content.hex())


def transcription(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.audio.transcriptions.create(model=request.model, file=("a.mp3", b"\xff\xfb" + bytes(100_000)))
    seen.say(getattr(answer, "text", None))


def upload(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.files.create(file=("lines.jsonl", b'{"a": 1}\n' * 50_000), purpose="batch")
    seen.note("file", [answer.id, answer.filename, answer.bytes])


def moderations(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    answer = made.moderations.create(model=request.model, input=request.prompt)
    seen.note("flagged", [result.flagged for result in answer.results])


def batches(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    seen.note("batches", [batch.id for batch in made.batches.list()])


def response_get(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    read_response(made.responses.retrieve("resp_1"), seen)


def response_cancel(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    read_response(made.responses.cancel("resp_1"), seen)


def response_delete(request: Request, seen: Seen) -> None:
    made = client(request)
    seen.start()
    made.responses.delete("resp_1")


CALLS = [
    chat, chat_stream, responses, responses_stream, completions, embeddings, models, images, image_edit, audio_speech,
    transcription, upload, moderations, batches, response_get, response_cancel, response_delete,
]  # fmt: skip

if __name__ == "__main__":
    serve({("openai", call.__name__): call for call in CALLS})
