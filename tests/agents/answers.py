"""What the model says: which tool it calls next for the task, and how each API writes that down as a stream.

It is a model with one skill: "Create the file NAME in the folder FOLDER with the one word WORD". It writes the file by
whatever tool is offered for that, looks at it by the shell if there is one, and then says that it is done. Where no
tool is offered but the prompt asks for SEARCH/REPLACE blocks, as aider's does, the file is in the text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = Any

TASK = "Create the file {name} in the folder {folder} with the one word {word}"
_TASK = re.compile(r"Create the file (?P<name>\S+) in the folder (?P<folder>\S+) with the one word (?P<word>\w+)")
DONE = "The file is there, and holds the word."
# What side calls get: titles, topics, guesses at the next prompt.
ASIDE = "A file with a word"

# Its own words of the blocks by which aider wants files in the text.
_EDIT_FORMAT = "SEARCH/REPLACE"
_USAGE = (100, 20)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Say:
    """The answer is text."""

    text: str


@dataclass(frozen=True)
class Use:
    """The answer is the call of a tool. `arguments` is an object, or text for tools of free form."""

    tool: str
    arguments: Json

    def written(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Turn:
    """What is answered, and whether the call is one of the task's own: faults befall only those."""

    answer: Say | Use
    main: bool


def decide(tools: dict[str, Json], results: int, prompt: str) -> Turn:
    """The next step of a conversation with so many tool results, where these tools are offered, by their names."""
    task = _TASK.search(prompt)
    if task is None:
        return Turn(Say(ASIDE), main=False)
    name, folder, word = task["name"], task["folder"], task["word"]
    if not tools:
        if _EDIT_FORMAT not in prompt:
            return Turn(Say(ASIDE), main=False)
        return Turn(Say(f"{name}\n```\n<<<<<<< SEARCH\n=======\n{word}\n>>>>>>> REPLACE\n```\n"), main=True)
    steps = [step for step in (_write(tools, name, folder, word), _shell(tools, f"cat {name}", folder)) if step]
    return Turn(steps[results] if results < len(steps) else Say(DONE), main=True)


def _write(tools: dict[str, Json], name: str, folder: str, word: str) -> Use | None:
    path = f"{folder}/{name}"
    if "Write" in tools:
        return Use("Write", {"file_path": path, "content": f"{word}\n"})
    if "write" in tools:
        return Use("write", {"filePath": path, "content": f"{word}\n"})
    patch = f"*** Begin Patch\n*** Add File: {path}\n+{word}\n*** End Patch\n"
    if _is_script(tools):
        return Use("exec", f"text(await tools.apply_patch({json.dumps(patch)}))")
    if "apply_patch" in tools:
        if tools["apply_patch"].get("type") == "custom":
            return Use("apply_patch", patch)
        # Its one argument has another name wherever it comes from.
        return Use("apply_patch", {tools["apply_patch"]["parameters"]["required"][0]: patch})
    return _shell(tools, f"echo {word} > {name}", folder)


def _shell(tools: dict[str, Json], command: str, folder: str) -> Use | None:
    in_folder = {"command": f"cd {folder} && {command}", "description": "Work on the file"}
    if _is_script(tools):
        call = json.dumps({"cmd": command, "workdir": folder})
        return Use("exec", f"text(await tools.exec_command({call}))")
    calls = {
        "Bash": in_folder,
        "bash": in_folder,
        "exec_command": {"cmd": command, "workdir": folder},
        "shell_command": {"command": command, "workdir": folder},
        "shell": {"command": ["bash", "-lc", command], "workdir": folder},
    }
    return next((Use(tool, arguments) for tool, arguments in calls.items() if tool in tools), None)


def _is_script(tools: dict[str, Json]) -> bool:
    """Whether the tools are called by a script in JavaScript, which Codex has some models write."""
    return tools.get("exec", {}).get("type") == "custom"


# ---- Anthropic's messages


def read_messages(body: Json) -> Turn:
    tools = _by_name(body.get("tools", []))
    blocks = [block for message in body["messages"] for block in _blocks(message["content"])]
    results = sum(block.get("type") == "tool_result" for block in blocks)
    return decide(tools, results, _all_text(body["messages"]))


def messages_events(turn: Turn, model: str) -> Iterator[tuple[str, Json]]:
    """The events of a stream, each with its name."""
    usage = {"input_tokens": _USAGE[0], "output_tokens": 1}
    head: Json = {"id": f"msg_{next(_numbers)}", "type": "message", "role": "assistant", "model": model, "content": []}
    head |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    yield "message_start", {"type": "message_start", "message": head}
    if isinstance(turn.answer, Use):
        block = {"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": turn.answer.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(turn.answer.written())]
    else:
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(turn.answer.text)]
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    for delta in deltas:
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    stop = "tool_use" if isinstance(turn.answer, Use) else "end_turn"
    end = {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": _USAGE[1]}}
    yield "message_delta", {"type": "message_delta", **end}
    yield "message_stop", {"type": "message_stop"}


def message(turn: Turn, model: str) -> Json:
    """The same as a whole answer."""
    if isinstance(turn.answer, Use):
        content = {"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": turn.answer.tool}
        content["input"] = turn.answer.arguments
    else:
        content = {"type": "text", "text": turn.answer.text}
    stop = "tool_use" if isinstance(turn.answer, Use) else "end_turn"
    usage = {"input_tokens": _USAGE[0], "output_tokens": _USAGE[1]}
    head: Json = {"id": f"msg_{next(_numbers)}", "type": "message", "role": "assistant", "model": model}
    return head | {"content": [content], "stop_reason": stop, "stop_sequence": None, "usage": usage}


# ---- OpenAI's chat completions


def read_chat(body: Json) -> Turn:
    tools = _by_name([tool["function"] for tool in body.get("tools", []) if "function" in tool])
    results = sum(message["role"] == "tool" for message in body["messages"])
    return decide(tools, results, _all_text(body["messages"]))


def chat_events(turn: Turn, model: str, with_usage: bool) -> Iterator[Json]:
    """The chunks of a stream, without its end."""
    head = {"id": f"chatcmpl-{next(_numbers)}", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if isinstance(turn.answer, Use):
        function = {"name": turn.answer.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{next(_numbers)}", "type": "function", "function": function}
        yield chunk({"tool_calls": [call]})
        for piece in pieces(turn.answer.written()):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk({}, "tool_calls")
    else:
        for piece in pieces(turn.answer.text):
            yield chunk({"content": piece})
        yield chunk({}, "stop")
    if with_usage:
        yield head | {"choices": [], "usage": _chat_usage()}


def chat(turn: Turn, model: str) -> Json:
    """The same as a whole answer."""
    if isinstance(turn.answer, Use):
        function = {"name": turn.answer.tool, "arguments": turn.answer.written()}
        call = {"id": f"call_{next(_numbers)}", "type": "function", "function": function}
        said, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    else:
        said, finish = {"role": "assistant", "content": turn.answer.text}, "stop"
    head = {"id": f"chatcmpl-{next(_numbers)}", "object": "chat.completion", "created": 1, "model": model}
    return head | {"choices": [{"index": 0, "message": said, "finish_reason": finish}], "usage": _chat_usage()}


def _chat_usage() -> Json:
    return {"prompt_tokens": _USAGE[0], "completion_tokens": _USAGE[1], "total_tokens": sum(_USAGE)}


# ---- OpenAI's responses


def read_responses(body: Json, earlier: list[Json]) -> tuple[Turn, list[Json]]:
    """The next step, and the whole input: a client with a connection of its own sends only what is new."""
    given = body["input"]
    items = earlier + (given if isinstance(given, list) else [{"role": "user", "content": given}])
    # Tools stand beside the input, or in an item of it, by themselves or in a namespace.
    offered = [*body.get("tools", []), *(tool for item in items for tool in item.get("tools", []))]
    tools = _by_name([inner for tool in offered for inner in tool.get("tools", [tool])])
    results = sum(str(item.get("type", "")).endswith("_call_output") for item in items)
    return decide(tools, results, _all_text(items)), items


def responses_events(turn: Turn, model: str) -> Iterator[Json]:
    """The events of a stream; each names its type."""
    number = next(_numbers)
    head: Json = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": model, "output": []}
    if isinstance(turn.answer, Use):
        item: Json = {
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": turn.answer.tool,
            "status": "completed",
        }
        if isinstance(turn.answer.arguments, str):
            item |= {"type": "custom_tool_call", "input": turn.answer.written()}
            key, delta_type = "input", "response.custom_tool_call_input.delta"
        else:
            item |= {"type": "function_call", "arguments": turn.answer.written()}
            key, delta_type = "arguments", "response.function_call_arguments.delta"
        opened, whole = item | {key: "", "status": "in_progress"}, turn.answer.written()
    else:
        part = {"type": "output_text", "text": turn.answer.text, "annotations": []}
        item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        opened, whole = item | {"content": [], "status": "in_progress"}, turn.answer.text
        delta_type = "response.output_text.delta"

    counts: Json = {"input_tokens": _USAGE[0], "output_tokens": _USAGE[1], "total_tokens": sum(_USAGE)}
    counts |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    events = [
        {"type": "response.created", "response": head | {"status": "in_progress"}},
        {"type": "response.in_progress", "response": head | {"status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        *(
            {"type": delta_type, "item_id": item["id"], "output_index": 0, "content_index": 0, "delta": piece}
            for piece in pieces(whole)
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": head | {"status": "completed", "output": [item], "usage": counts}},
    ]
    for position, event in enumerate(events):
        yield event | {"sequence_number": position}


# ---- common


def pieces(text: str, size: int = 12) -> Iterator[str]:
    """A text as a stream has it, in pieces."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _by_name(tools: list[Json]) -> dict[str, Json]:
    return {tool["name"]: tool for tool in tools if "name" in tool}


def _blocks(content: Json) -> list[Json]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _all_text(value: Json) -> str:
    """Every text in it, in order: the task stands in one of them, and so does the format of edits."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(_all_text(value[key]) for key in ("content", "text", "input") if key in value)
    if isinstance(value, list):
        return "\n".join(_all_text(part) for part in value)
    return ""
