"""The cases of calls that are no talk: structured answers, and the other surfaces of each API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from driver.cases import Case, one, talks
from driver.words import TEXT, Reply, behave, healthy, json_body, page, refusal


def all_cases() -> list[Case]:
    """All cases of all APIs."""
    cases = [*talks(), *structured(), *surfaces()]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "each case has a name of its own"
    return cases


def structured() -> Iterator[Case]:
    """Answers as objects: tool calls that a library makes of a type and reads again."""
    for dialect in ("openai", "anthropic"):
        # Some libraries ask for a call of a tool, others for a text.
        wishes = {"tools": True, "text": '{"city": "Paris"}'}
        call, good = "structured", healthy(**wishes)
        failures: dict[str, list[Reply]] = {
            "good": [],
            "gzip": [healthy(**wishes, gzip=True)],
            **{f"{status}": [refusal(dialect, status)] * 9 for status in (400, 401, 403, 404, 422, 429, 500, 503, 529)},
            **{f"twice {status}": [refusal(dialect, status)] * 2 for status in (408, 409, 429, 500, 503, 529)},
            "twice 429 retry-after-ms 300": [refusal(dialect, 429, {"retry-after-ms": "300"})] * 2,
            "spent quota": [behave("spent-quota")] * 9,
            "502 html": [page(502)] * 9,
            "500 empty": [{"status": 500}] * 9,
            "close before head": [{"before_head": "close"}] * 9,
            "once close before head": [{"before_head": "close"}],
            "once 200 html": [page(200)],
            "once no tool call": [healthy()],
            "once cut after head": [healthy(after_events=0, end="cut")],
        }
        for name, replies in failures.items():
            yield one(dialect, call, name, good, replies=replies, good_text=None)


def surfaces() -> Iterator[Case]:
    """The other calls of each API, well and in trouble."""
    sound = base64.b64encode(bytes(range(256)) * 64).decode()
    good: dict[tuple[str, str], Reply] = {
        ("openai", "completions"): json_body({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"text": TEXT, "index": 0, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}),
        ("openai", "embeddings"): healthy(),
        ("openai", "models"): healthy(),
        ("openai", "images"): json_body({"created": 1, "data": [{"b64_json": "aGVsbG8="}]}),
        ("openai", "image_edit"): json_body({"created": 1, "data": [{"b64_json": "aGVsbG8="}]}),
        ("openai", "audio_speech"): {"headers": {"content-type": "audio/mpeg"}, "body_base64": sound},
        ("openai", "transcription"): json_body({"text": TEXT}),
        ("openai", "upload"): json_body({"id": "file-1", "object": "file", "bytes": 450000, "created_at": 1,
            "filename": "lines.jsonl", "purpose": "batch", "status": "processed"}),
        ("openai", "moderations"): json_body({"id": "modr-1", "model": "m", "results": [
            {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}]}),
        ("openai", "batches"): json_body({"object": "list", "data": [], "has_more": False}),
        ("openai", "response_get"): json_body(response("completed")),
        ("openai", "response_cancel"): json_body(response("cancelled")),
        ("openai", "response_delete"): json_body({"id": "resp_1", "object": "response", "deleted": True}),
        ("anthropic", "count_tokens"): healthy(),
        ("anthropic", "models"): json_body({"data": [{"type": "model", "id": "claude", "display_name": "Claude",
            "created_at": "2026-01-01T00:00:00Z"}], "has_more": False, "first_id": "claude", "last_id": "claude"}),
        ("anthropic", "upload"): json_body({"id": "file_1", "type": "file", "filename": "a.txt", "size_bytes": 400000,
            "mime_type": "text/plain", "created_at": "2026-01-01T00:00:00Z", "downloadable": False}),
        ("anthropic", "batches"): json_body({"data": [], "has_more": False, "first_id": None, "last_id": None}),
        ("gemini", "count_tokens"): json_body({"totalTokens": 7}),
        ("gemini", "embeddings"): json_body({"embeddings": [{"values": [0.5, 0.25]}, {"values": [0.5, 0.25]}],
            "embedding": {"values": [0.5, 0.25]}}),
        ("gemini", "models"): json_body({"models": [{"name": "models/mock-small", "displayName": "Mock"}]}),
    }  # fmt: skip
    for (dialect, call), reply in good.items():
        yield one(dialect, call, "good", reply, good_text=None, short=True)
        for status in (401, 404, 429, 500):
            yield one(dialect, call, f"{status}", refusal(dialect, status), good_text=None)
        for status in (429, 500):
            failure = refusal(dialect, status, {"retry-after-ms": "300"} if status == 429 else None)
            yield one(dialect, call, f"twice {status}", reply, replies=[failure] * 2, good_text=None)
        yield one(dialect, call, "once close before head", reply, replies=[{"before_head": "close"}], good_text=None)
        yield one(dialect, call, "502 html", page(502), good_text=None)


def response(status: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "mock-small",
        "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None,
        "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 8},
    }  # fmt: skip
