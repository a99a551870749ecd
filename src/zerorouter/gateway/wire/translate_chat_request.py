"""An OpenAI chat completion request as an Anthropic Messages request.

Notable choices:

- System and developer messages, wherever they stand, become the ``system`` prompt.
- Anthropic wants turns by turns, beginning with the user's: messages of one role that follow each
  other become one, a conversation that begins with the assistant gets `OPENING` before it.
- ``response_format`` of a JSON Schema becomes Anthropic's structured output where the model has
  it; else, and for ``json_object``, the wish is put into words at the end of the system prompt.
- ``max_tokens`` is required by Anthropic; where the client sets none, the caller's default stands.
- Older functions, custom tools, several answers, log probabilities and sound have no counterpart
  that would give the client the answer it expects: they are errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.gateway.wire.codec import dumps, loads_exact
from zerorouter.gateway.wire.translating import (
    Json,
    Notes,
    Translation,
    list_of,
    malformed,
    object_of,
    text_of,
    tool_id,
    untranslatable,
)

OPENING: Final = "…"
"""What the user is taken to have said where a conversation begins with the assistant."""

MALFORMED_ARGUMENTS: Final = "_malformed_arguments"
"""Holds arguments of a tool call that are no JSON object, which Anthropic's ``input`` must be."""

JSON_WISH: Final = "Answer with one JSON object and nothing else: no prose, no code fence."
SCHEMA_WISH: Final = (
    "Answer with one JSON value that follows this JSON Schema and nothing else: no prose, no code "
    "fence.\n"
)

_DATA_URL: Final = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,(.*)", re.DOTALL)
_TRANSLATED: Final = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "stop", "stream", "user"),
        *("stream_options", "temperature", "top_p", "top_k", "tools", "tool_choice", "n"),
        *("parallel_tool_calls", "response_format", "reasoning_effort", "safety_identifier"),
        *("logprobs", "top_logprobs", "modalities", "audio", "functions", "function_call"),
        *("web_search_options", "zerorouter"),
    }
)
_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MessagesDialect:
    """What an Anthropic upstream and its model take.

    Attributes:
        default_max_tokens: Where the client sets no limit; at best the model's own.
        structured_outputs: Takes ``output_config.format``.
        effort: Takes ``output_config.effort``.
        cache_control: Passes ``cache_control`` on parts, which some OpenAI clients write, on.
    """

    default_max_tokens: int = 8_192
    structured_outputs: bool = True
    effort: bool = False
    cache_control: bool = True


def chat_to_messages(
    body: Mapping[str, Any], *, model: str, dialect: MessagesDialect | None = None
) -> Translation:
    """Translate a request of ``POST /v1/chat/completions``.

    Args:
        body: The request as parsed; it is not changed.
        model: The model's name at the upstream.
        dialect: What the upstream takes.

    Raises:
        WireError: The request breaks OpenAI's format.
        UntranslatableError: It asks for something that Anthropic's API cannot express.
    """
    return _Writer(body, dialect or MessagesDialect()).write(model)


class _Writer:
    def __init__(self, body: Mapping[str, Any], dialect: MessagesDialect) -> None:
        self._body = body
        self._dialect = dialect
        self._notes = Notes()
        self._system: list[Json] = []

    def write(self, model: str) -> Translation:
        self._refuse()
        body, notes = self._body, self._notes
        messages = self._messages()
        config = self._output_config()
        made: Json = {"model": model, "max_tokens": self._limit()}
        if self._system:
            made["system"] = _plain(self._system)
        made["messages"] = messages
        if config:
            made["output_config"] = config
        temperature = body.get("temperature")
        if temperature is not None:
            if isinstance(temperature, int | float) and temperature > 1:
                notes.add("temperature was lowered to 1, Anthropic's largest")
                temperature = 1.0
            made["temperature"] = temperature
        for name in ("top_p", "top_k"):
            if body.get(name) is not None:
                made[name] = body[name]
        self._stops(made)
        self._tools(made)
        user = body.get("safety_identifier") or body.get("user")
        if isinstance(user, str) and user:
            made["metadata"] = {"user_id": user}
        if body.get("stream") is True:
            made["stream"] = True
        for name, value in body.items():
            if name not in _TRANSLATED and value is not None:
                notes.add(f"{name} was left out: Anthropic's messages do not know it")
        return Translation(body=made, notes=notes.all())

    def _refuse(self) -> None:
        body = self._body
        if body.get("n") not in (None, 1):
            raise untranslatable("n", "Anthropic's messages give one answer")
        if body.get("logprobs") or body.get("top_logprobs"):
            raise untranslatable("logprobs", "Anthropic's messages have no log probabilities")
        modalities = body.get("modalities")
        if body.get("audio") or (isinstance(modalities, list) and "audio" in modalities):
            raise untranslatable("modalities", "Anthropic's messages answer in text alone")
        if body.get("functions") or body.get("function_call"):
            raise untranslatable(
                "functions", "functions are OpenAI's older form", "declare them as tools"
            )
        if body.get("web_search_options"):
            raise untranslatable("web_search_options", "the search is made by OpenAI")

    def _limit(self) -> Any:
        for name in ("max_completion_tokens", "max_tokens"):
            if self._body.get(name) is not None:
                return self._body[name]
        return self._dialect.default_max_tokens

    # -- messages --------------------------------------------------------------------------------

    def _messages(self) -> list[Json]:
        turns: list[tuple[str, list[Json]]] = []
        for i, given in enumerate(list_of(self._body.get("messages"), "messages")):
            at = f"messages.{i}"
            message = object_of(given, at)
            role = message.get("role")
            if message.get("name") and role != "tool":
                self._notes.add("names of participants were left out")
            if role in ("system", "developer"):
                if turns:
                    self._notes.add("system messages were moved to the beginning")
                self._system.extend(self._parts(message.get("content"), f"{at}.content"))
                continue
            if role == "user":
                blocks = self._parts(message.get("content"), f"{at}.content")
                name = "user"
            elif role == "assistant":
                blocks, name = self._assistant(message, at), "assistant"
            elif role == "tool":
                blocks, name = [self._tool_result(message, at)], "user"
            elif role == "function":
                raise untranslatable(at, "functions are OpenAI's older form", "use tools")
            else:
                raise malformed(f"{at}.role", role, "user, assistant, system, developer or tool")
            if turns and turns[-1][0] == name:
                turns[-1][1].extend(blocks)
            elif blocks:
                turns.append((name, blocks))
            else:
                self._notes.add("messages without content were left out: Anthropic refuses them")
        if turns and turns[0][0] == "assistant":
            turns.insert(0, ("user", [{"type": "text", "text": OPENING}]))
            self._notes.add("the conversation begins with the assistant: an opening was put before")
        if not turns:
            raise malformed("messages", self._body.get("messages"), "a message of the user")
        self._mend_end(turns)
        return [{"role": role, "content": _plain(_ordered(blocks))} for role, blocks in turns]

    def _mend_end(self, turns: list[tuple[str, list[Json]]]) -> None:
        """A last message of the assistant's is a beginning to Anthropic, without blanks after."""
        role, blocks = turns[-1]
        if role != "assistant":
            return
        self._notes.add("the last message is the assistant's: Anthropic goes on with it")
        last = blocks[-1]
        if last["type"] == "text" and last["text"] != last["text"].rstrip():
            self._notes.add("blanks at the end of the last message were left out")
            blocks[-1] = {**last, "text": last["text"].rstrip()}

    def _parts(self, content: Any, where: str) -> list[Json]:
        """Content as blocks; empty texts, which Anthropic refuses, are left out."""
        if content is None:
            return []
        if isinstance(content, str):
            return [{"type": "text", "text": content}] if content.strip() else []
        blocks: list[Json] = []
        for j, given in enumerate(list_of(content, where)):
            at = f"{where}.{j}"
            if isinstance(given, str):
                block = self._block({"type": "text", "text": given}, at)
            else:
                block = self._block(object_of(given, at), at)
            if block["type"] != "text" or block["text"].strip():
                blocks.append(block)
        return blocks

    def _block(self, part: Mapping[str, Any], at: str) -> Json:
        kind = part.get("type")
        if kind in ("text", "input_text"):
            block: Json = {"type": "text", "text": text_of(part.get("text"), f"{at}.text")}
        elif kind == "refusal":
            block = {"type": "text", "text": text_of(part.get("refusal"), f"{at}.refusal")}
        elif kind == "image_url":
            block = {"type": "image", "source": self._image(part, at)}
        elif kind == "file":
            block = self._file(object_of(part.get("file"), f"{at}.file"), f"{at}.file")
        elif kind == "input_audio":
            raise untranslatable(at, "Anthropic's models do not hear")
        elif not isinstance(kind, str):
            raise malformed(f"{at}.type", kind, "the type of a part of content")
        else:
            raise untranslatable(at, f"Anthropic's messages have no content like {kind!r}")
        mark = part.get("cache_control")
        if mark is not None and self._dialect.cache_control:
            block["cache_control"] = mark
        if part.get("prompt_cache_breakpoint") is not None:
            self._notes.add("prompt_cache_breakpoint was left out")
        return block

    def _image(self, part: Mapping[str, Any], at: str) -> Json:
        given = part.get("image_url")
        if isinstance(given, str):
            given = {"url": given}
        given = object_of(given, f"{at}.image_url")
        url = text_of(given.get("url"), f"{at}.image_url.url")
        if given.get("detail") not in (None, "auto"):
            self._notes.add("the detail of images was left out: Anthropic sees them whole")
        if url.startswith(("https://", "http://")):
            return {"type": "url", "url": url}
        match = _DATA_URL.match(url)
        if match is None:
            raise malformed(f"{at}.image_url.url", url[:40], "https://... or data:...;base64,...")
        return {"type": "base64", "media_type": match[1], "data": match[2]}

    def _file(self, file: Mapping[str, Any], at: str) -> Json:
        data = file.get("file_data")
        if not isinstance(data, str):
            raise untranslatable(at, "a file by its id lies at OpenAI", "send its bytes")
        match = _DATA_URL.match(data)
        media, raw = (match[1], match[2]) if match else ("application/pdf", data)
        if media != "application/pdf":
            raise untranslatable(at, f"Anthropic's messages take files in PDF, not {media[:60]!r}")
        block: Json = {
            "type": "document",
            "source": {"type": "base64", "media_type": media, "data": raw},
        }
        if isinstance(file.get("filename"), str) and file["filename"]:
            block["title"] = file["filename"]
        return block

    def _assistant(self, message: Mapping[str, Any], at: str) -> list[Json]:
        if message.get("function_call"):
            raise untranslatable(at, "functions are OpenAI's older form", "use tools")
        if message.get("audio"):
            raise untranslatable(f"{at}.audio", "Anthropic's messages hold no sound")
        blocks = self._parts(message.get("content"), f"{at}.content")
        blocks += self._parts(message.get("refusal"), f"{at}.refusal")
        for name in ("reasoning_content", "reasoning", "reasoning_details"):
            if message.get(name):
                self._notes.add("earlier reasoning was left out: Anthropic takes only its own")
        for j, given in enumerate(list_of(message.get("tool_calls") or [], f"{at}.tool_calls")):
            where = f"{at}.tool_calls.{j}"
            call = object_of(given, where)
            if call.get("type", "function") != "function":
                raise untranslatable(where, "Anthropic's messages know no custom tools")
            function = object_of(call.get("function"), f"{where}.function")
            arguments, is_object = arguments_of(function.get("arguments"))
            if not is_object:
                self._notes.add("arguments that are no JSON object were given as a text")
            blocks.append(
                {
                    "type": "tool_use",
                    "id": tool_id(text_of(call.get("id"), f"{where}.id")),
                    "name": text_of(function.get("name"), f"{where}.function.name"),
                    "input": arguments,
                }
            )
        return blocks

    def _tool_result(self, message: Mapping[str, Any], at: str) -> Json:
        call = tool_id(text_of(message.get("tool_call_id"), f"{at}.tool_call_id"))
        blocks = self._parts(message.get("content"), f"{at}.content")
        made: Json = {"type": "tool_result", "tool_use_id": call}
        if blocks:
            made["content"] = _plain(blocks)
        return made

    # -- all else --------------------------------------------------------------------------------

    def _stops(self, made: Json) -> None:
        stop = self._body.get("stop")
        if stop is None:
            return
        stops = [stop] if isinstance(stop, str) else list_of(stop, "stop")
        kept = [text_of(one, "stop") for one in stops if not isinstance(one, str) or one.strip()]
        if len(kept) < len(stops):
            self._notes.add("stops made of blanks were left out: Anthropic refuses them")
        if kept:
            made["stop_sequences"] = kept

    def _tools(self, made: Json) -> None:
        given = self._body.get("tools")
        if not given:
            return
        tools = [self._tool(tool, i) for i, tool in enumerate(list_of(given, "tools"))]
        choice = self._body.get("tool_choice")
        chosen: Json | None = None
        if isinstance(choice, str):
            words = {"auto": "auto", "none": "none", "required": "any"}
            if choice not in words:
                raise malformed("tool_choice", choice, "auto, none, required or a tool")
            chosen = {"type": words[choice]}
        elif choice is not None:
            tools, chosen = self._named_choice(object_of(choice, "tool_choice"), tools)
        if self._body.get("parallel_tool_calls") is False:
            chosen = chosen or {"type": "auto"}
            if chosen["type"] != "none":
                chosen["disable_parallel_tool_use"] = True
        made["tools"] = tools
        if chosen is not None:
            made["tool_choice"] = chosen

    def _tool(self, given: Any, i: int) -> Json:
        at = f"tools.{i}"
        tool = object_of(given, at)
        if tool.get("type", "function") != "function":
            raise untranslatable(at, f"Anthropic's messages know no tools like {tool['type']!r}")
        function = object_of(tool.get("function"), f"{at}.function")
        made: Json = {"name": text_of(function.get("name"), f"{at}.function.name")}
        if function.get("description"):
            made["description"] = function["description"]
        schema = dict(object_of(function.get("parameters") or {}, f"{at}.function.parameters"))
        made["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
        if isinstance(function.get("strict"), bool):
            made["strict"] = function["strict"]
        mark = tool.get("cache_control")
        if mark is not None and self._dialect.cache_control:
            made["cache_control"] = mark
        return made

    def _named_choice(
        self, choice: Mapping[str, Any], tools: list[Json]
    ) -> tuple[list[Json], Json]:
        kind = choice.get("type")
        if kind == "function":
            function = object_of(choice.get("function"), "tool_choice.function")
            return tools, {
                "type": "tool",
                "name": text_of(function.get("name"), "tool_choice.function.name"),
            }
        if kind == "allowed_tools":
            at = "tool_choice.allowed_tools"
            allowed = object_of(choice.get("allowed_tools"), at)
            names = []
            for j, one in enumerate(list_of(allowed.get("tools"), f"{at}.tools")):
                where = f"{at}.tools.{j}"
                function = object_of(object_of(one, where).get("function"), f"{where}.function")
                names.append(text_of(function.get("name"), f"{where}.function.name"))
            self._notes.add("tools that are not allowed were left out")
            mode = "any" if allowed.get("mode") == "required" else "auto"
            return [tool for tool in tools if tool["name"] in names], {"type": mode}
        raise untranslatable("tool_choice", f"Anthropic's messages know no choice like {kind!r}")

    def _output_config(self) -> Json:
        config: Json = {}
        effort = self._body.get("reasoning_effort")
        if effort is not None:
            if self._dialect.effort and str(effort) in _EFFORTS:
                config["effort"] = _EFFORTS[str(effort)]
            elif effort != "none":
                self._notes.add("reasoning_effort was left out: the model may not take it")
        wanted = self._body.get("response_format")
        if wanted is None:
            return config
        wanted = object_of(wanted, "response_format")
        kind = wanted.get("type")
        if kind == "json_object":
            self._system.append({"type": "text", "text": JSON_WISH})
            self._notes.add("response_format json_object is asked for in words")
        elif kind == "json_schema":
            told = object_of(wanted.get("json_schema"), "response_format.json_schema")
            schema = told.get("schema")
            schema = object_of(schema or {"type": "object"}, "response_format.json_schema.schema")
            if self._dialect.structured_outputs:
                config["format"] = {"type": "json_schema", "schema": dict(schema)}
            else:
                words = SCHEMA_WISH + dumps(dict(schema)).decode()
                self._system.append({"type": "text", "text": words})
                self._notes.add("response_format json_schema is asked for in words")
        elif kind != "text":
            raise untranslatable("response_format", f"no format like {kind!r}")
        return config


def arguments_of(given: Any) -> tuple[Json, bool]:
    """A tool call's arguments as an object, and whether they are one. Empty ones are ``{}``."""
    if isinstance(given, str) and not given.strip():
        return {}, True
    try:
        read = loads_exact(given) if isinstance(given, str) else given
    except ValueError:
        read = None
    if isinstance(read, dict):
        return read, True
    return {MALFORMED_ARGUMENTS: given}, False


def _ordered(blocks: Sequence[Json]) -> list[Json]:
    """Results of tools first, as Anthropic wants them."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _plain(blocks: Sequence[Json]) -> str | list[Json]:
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return list(blocks)
