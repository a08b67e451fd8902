"""What providers say, in the JSON of the mock's scripts (mock-provider/src/scripted.rs)."""

from __future__ import annotations

import json
from typing import Any

Reply = dict[str, Any]

# What the mock says on a good day.
TEXT = "Hello from the mock provider."

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html; charset=UTF-8"}
HTML_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>{status} {title}</title></head>\n"
    "<body><center><h1>{status} {title}</h1></center><hr><center>cloudflare</center></body></html>\n"
)

# Status: (words of OpenAI: type and code; of Anthropic: type; of Gemini: status; title).
STATUSES: dict[int, tuple[str, str | None, str, str, str]] = {
    400: ("invalid_request_error", "invalid_value", "invalid_request_error", "INVALID_ARGUMENT", "Bad Request"),
    401: ("invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED", "Unauthorized"),
    403: ("invalid_request_error", "unsupported_country_region_territory", "permission_error", "PERMISSION_DENIED",
          "Forbidden"),
    404: ("invalid_request_error", "model_not_found", "not_found_error", "NOT_FOUND", "Not Found"),
    408: ("timeout", None, "timeout_error", "DEADLINE_EXCEEDED", "Request Timeout"),
    409: ("conflict", None, "invalid_request_error", "ABORTED", "Conflict"),
    413: ("invalid_request_error", "request_too_large", "request_too_large", "INVALID_ARGUMENT", "Payload Too Large"),
    422: ("invalid_request_error", None, "invalid_request_error", "INVALID_ARGUMENT", "Unprocessable Entity"),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED", "Too Many Requests"),
    500: ("server_error", None, "api_error", "INTERNAL", "Internal Server Error"),
    502: ("server_error", None, "api_error", "INTERNAL", "Bad Gateway"),
    503: ("server_error", "server_is_overloaded", "overloaded_error", "UNAVAILABLE", "Service Unavailable"),
    504: ("server_error", None, "timeout_error", "DEADLINE_EXCEEDED", "Gateway Timeout"),
    520: ("server_error", None, "api_error", "UNKNOWN", "Web server is returning an unknown error"),
    522: ("server_error", None, "api_error", "UNKNOWN", "Connection timed out"),
    524: ("server_error", None, "timeout_error", "UNKNOWN", "A timeout occurred"),
    529: ("server_error", "server_is_overloaded", "overloaded_error", "UNAVAILABLE", "Site is overloaded"),
}  # fmt: skip


def envelope(dialect: str, status: int) -> dict[str, Any]:
    """An error in the words of an API."""
    kind, code, anthropic_kind, gemini_status, title = STATUSES[status]
    message = f"The provider says: {title}."
    if dialect == "openai":
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}
    if dialect == "anthropic":
        return {"type": "error", "error": {"type": anthropic_kind, "message": message}, "request_id": "req_1"}
    return {"error": {"code": status, "message": message, "status": gemini_status}}


def refusal(dialect: str, status: int, headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps(envelope(dialect, status))
    return {"status": status, "headers": {**JSON, **(headers or {})}, "body": body}


def page(status: int) -> Reply:
    """A page of some gateway's in front of the provider."""
    title = STATUSES[status][4] if status in STATUSES else "OK"
    return {"status": status, "headers": HTML, "body": HTML_PAGE.format(status=status, title=title)}


def healthy(**wishes: Any) -> Reply:
    return {"healthy": wishes}


def json_body(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return {"status": status, "headers": {**JSON, **(headers or {})}, "body": json.dumps(body)}


def behave(behaviour: str) -> Reply:
    return {"behave": behaviour}


def chat_events(comments: bool) -> list[str]:
    """A chat stream in OpenAI's words, with or without the comments that keep connections alive."""

    def chunk(choices: list[Any], **more: Any) -> str:
        data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock-small"}
        return f"data: {json.dumps({**data, 'choices': choices, **more})}\n\n"

    def delta(delta: dict[str, Any], finish: str | None = None) -> str:
        return chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

    comment = [": keep-alive\n\n"] if comments else []
    events = [*comment, *comment, delta({"role": "assistant", "content": ""})]
    for word in TEXT.split(" "):
        last = "" if word.endswith(".") else " "
        events += [*comment, delta({"content": word + last})]
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return [*events, delta({}, "stop"), chunk([], usage=usage), *comment, "data: [DONE]\n\n"]
