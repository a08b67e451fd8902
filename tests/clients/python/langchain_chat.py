"""LangChain's chat models over the official libraries."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from protocol import PNG_BASE64, TOOL_DESCRIPTION, TOOL_NAME, TOOL_PARAMETERS, Request, Seen, left_early, serve


def options(request: Request, retries: str = "max_retries", timeout: str = "timeout") -> dict[str, Any]:
    made: dict[str, Any] = {}
    if request.option("max_retries") is not None:
        made[retries] = request.option("max_retries")
    if request.option("timeout_s") is not None:
        made[timeout] = request.option("timeout_s")
    return made


def model(request: Request) -> Any:
    if request.dialect == "openai":
        more = {"n": request.option("n")} if request.option("n") is not None else {}
        # `stream_usage` is what makes it ask for usage where the URL is not OpenAI's own.
        made: Any = ChatOpenAI(
            model=request.model, base_url=f"{request.base_url}/v1", api_key=request.api_key, stream_usage=True,
            use_responses_api=request.call.startswith("responses"), **options(request), **more,
        )  # fmt: skip
    elif request.dialect == "anthropic":
        made = ChatAnthropic(
            model=request.model, base_url=request.base_url, api_key=request.api_key, max_tokens=1024, **options(request)
        )
    else:
        made = ChatGoogleGenerativeAI(
            model=request.model, base_url=request.base_url, google_api_key=request.api_key, **options(request)
        )
    if request.option("tools"):
        function = {"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters": TOOL_PARAMETERS}
        made = made.bind_tools([{"type": "function", "function": function}])
    return made


def messages(request: Request) -> list[HumanMessage]:
    if not request.option("image"):
        return [HumanMessage(request.prompt)]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}}
    return [HumanMessage([{"type": "text", "text": request.prompt}, picture])]


def read(message: AIMessage, seen: Seen) -> None:
    seen.say(message.text if isinstance(message.text, str) else message.text())
    if message.usage_metadata:
        seen.use(message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"])
    metadata = message.response_metadata
    seen.finish = metadata.get("finish_reason") or metadata.get("stop_reason") or seen.finish


def read_tools(message: AIMessage, seen: Seen) -> None:
    for call in message.tool_calls:
        seen.call_tool(call["name"], call["args"])


def whole(request: Request, seen: Seen) -> None:
    made = model(request)
    seen.start()
    answer = made.invoke(messages(request))
    read(answer, seen)
    read_tools(answer, seen)


def stream(request: Request, seen: Seen) -> None:
    made = model(request)
    all_of_it: AIMessageChunk | None = None
    seen.start()
    for chunk in made.stream(messages(request)):
        count = seen.event()
        seen.say(chunk.text if isinstance(chunk.text, str) else chunk.text())
        all_of_it = chunk if all_of_it is None else all_of_it + chunk
        if left_early(request, count):
            break
    if all_of_it is not None:
        seen.texts.clear()
        read(all_of_it, seen)
        read_tools(all_of_it, seen)


def embeddings(request: Request, seen: Seen) -> None:
    made = OpenAIEmbeddings(
        model=request.model, base_url=f"{request.base_url}/v1", api_key=request.api_key,
        check_embedding_ctx_length=False, **options(request),
    )  # fmt: skip
    seen.start()
    seen.note("vectors", [len(one) for one in made.embed_documents([request.prompt, "Again."])])


if __name__ == "__main__":
    serve(
        {
            ("openai", "chat"): whole,
            ("openai", "chat_stream"): stream,
            ("openai", "responses"): whole,
            ("openai", "responses_stream"): stream,
            ("openai", "embeddings"): embeddings,
            ("anthropic", "messages"): whole,
            ("anthropic", "messages_stream"): stream,
            ("gemini", "generate"): whole,
            ("gemini", "generate_stream"): stream,
        }
    )
