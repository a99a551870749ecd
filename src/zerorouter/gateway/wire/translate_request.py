"""An Anthropic Messages request as an OpenAI chat completion request, and the way back.

The way back is `translate_chat_request.chat_to_messages`. Notable choices here:

- Tool results become messages of the role ``tool``, which have to follow the calls at once: in a
  user message with results they come first, the user's own words after them.
- Chat completions know neither a failed tool result nor images in one. A failure is told in words
  (`TOOL_ERROR_MARK`), images follow in the user message after the results.
- Thinking is signed by the model that thought and unreadable to any other; it is left out, or sent
  as ``reasoning_content`` where the upstream takes that.
- Tools that run at Anthropic (web search, code execution) or whose schema only Anthropic's models
  know (bash, text editor, computer) cannot be translated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from zerorouter.gateway.wire.codec import dumps
from zerorouter.gateway.wire.translate_chat_request import MessagesDialect, chat_to_messages
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

__all__ = [
    "TOOL_ERROR_MARK",
    "ChatDialect",
    "MessagesDialect",
    "chat_to_messages",
    "messages_to_chat",
]

TOOL_ERROR_MARK: Final = "[tool error] "
"""Stands before the words of a tool result that reports a failure."""

_LONGEST_USER: Final = 64  # characters that OpenAI takes in `user`
# Upper ends of thinking budgets in tokens for OpenAI's words.
_LOW_BUDGET: Final = 4_096
_MEDIUM_BUDGET: Final = 16_384
_TRANSLATED: Final = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stop_sequences", "stream", "temperature"),
        *("top_p", "top_k", "tools", "tool_choice", "metadata", "thinking", "output_config"),
        *("output_format", "zerorouter"),
    }
)
# Dropping these would break a promise to the client rather than cost it a nuance.
_REFUSED: Final = {
    "container": "containers live at Anthropic",
    "mcp_servers": "servers of tools are called by Anthropic",
    "inference_geo": "where another upstream computes is not known",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatDialect:
    """What an OpenAI-compatible upstream understands beyond the common ground.

    Attributes:
        max_tokens_field: ``"max_completion_tokens"`` for OpenAI itself, whose newer models refuse
            the older word; ``"max_tokens"`` for nearly all others.
        reasoning_effort: Takes ``reasoning_effort``; models that do not reason refuse it.
        reasoning_content: Takes earlier reasoning back as ``reasoning_content`` (DeepSeek, vLLM).
        top_k: Takes ``top_k``.
        cache_control: Takes Anthropic's ``cache_control`` on parts (OpenRouter, LiteLLM).
        longest_tool_name: Characters in a tool's name, None without a limit.
    """

    max_tokens_field: str = "max_tokens"
    reasoning_effort: bool = False
    reasoning_content: bool = False
    top_k: bool = False
    cache_control: bool = False
    longest_tool_name: int | None = 64


def messages_to_chat(
    body: Mapping[str, Any], *, model: str, dialect: ChatDialect | None = None
) -> Translation:
    """Translate a request of ``POST /v1/messages``.

    Args:
        body: The request as parsed; it is not changed.
        model: The model's name at the upstream.
        dialect: What the upstream understands.

    Raises:
        WireError: The request breaks Anthropic's format.
        UntranslatableError: It asks for something that chat completions cannot express.
    """
    return _Writer(body, dialect or ChatDialect()).write(model)


class _Writer:
    def __init__(self, body: Mapping[str, Any], dialect: ChatDialect) -> None:
        self._body = body
        self._dialect = dialect
        self._notes = Notes()

    def write(self, model: str) -> Translation:
        body, notes = self._body, self._notes
        made: Json = {"model": model, "messages": self._messages()}
        limit = body.get("max_tokens")
        if limit == 0:
            raise untranslatable("max_tokens", "0 only warms Anthropic's prompt cache")
        if limit is not None:
            made[self._dialect.max_tokens_field] = limit
        for theirs, ours in (
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("stop_sequences", "stop"),
        ):
            if body.get(theirs) is not None and body[theirs] != []:
                made[ours] = body[theirs]
        if body.get("top_k") is not None:
            if self._dialect.top_k:
                made["top_k"] = body["top_k"]
            else:
                notes.add("top_k was left out: chat completions do not know it")
        self._tools(made)
        self._effort(made)
        self._format(made)
        self._user(made)
        if body.get("stream") is True:
            made["stream"] = True
            made["stream_options"] = {"include_usage": True}
        for name, value in body.items():
            if name in _TRANSLATED or value is None or value == []:
                continue
            if name in _REFUSED:
                raise untranslatable(name, _REFUSED[name])
            notes.add(f"{name} was left out: chat completions do not know it")
        return Translation(body=made, notes=notes.all())

    # -- messages --------------------------------------------------------------------------------

    def _messages(self) -> list[Json]:
        made: list[Json] = []
        system = self._body.get("system")
        if system:
            made.append({"role": "system", "content": self._system(system, "system")})
        for i, given in enumerate(list_of(self._body.get("messages"), "messages")):
            message = object_of(given, f"messages.{i}")
            role, where = message.get("role"), f"messages.{i}.content"
            content = message.get("content")
            if role == "assistant":
                made.append(self._assistant(content, where))
            elif role == "user":
                self._user_message(made, content, where)
            elif role == "system":
                made.append({"role": "system", "content": self._system(content, where)})
            else:
                raise malformed(f"messages.{i}.role", role, "user, assistant or system")
        if made and made[-1]["role"] == "assistant":
            self._notes.add(
                "the last message is the assistant's: chat completions start a new message "
                "instead of going on with it"
            )
        return made

    def _system(self, value: Any, where: str) -> str | list[Json]:
        if isinstance(value, str):
            return value
        blocks = [object_of(block, f"{where}.{i}") for i, block in enumerate(list_of(value, where))]
        for i, block in enumerate(blocks):
            if block.get("type") != "text":
                raise malformed(f"{where}.{i}.type", block.get("type"), "text")
        parts = [self._text(block, f"{where}.{i}") for i, block in enumerate(blocks)]
        if any("cache_control" in part for part in parts):
            return parts
        # As one text: many servers fill it into a template that knows no parts.
        return "\n\n".join([part["text"] for part in parts if part["text"]])

    def _text(self, block: Mapping[str, Any], where: str) -> Json:
        part: Json = {"type": "text", "text": text_of(block.get("text"), f"{where}.text")}
        return self._marked(part, block)

    def _marked(self, part: Json, block: Mapping[str, Any]) -> Json:
        mark = block.get("cache_control")
        if mark is not None:
            if self._dialect.cache_control:
                part["cache_control"] = mark
            else:
                self._notes.add("cache_control was left out: the upstream caches on its own")
        return part

    def _user_message(self, made: list[Json], content: Any, where: str) -> None:
        if isinstance(content, str):
            made.append({"role": "user", "content": content})
            return
        parts: list[Json] = []
        from_tools: list[Json] = []
        for j, given in enumerate(list_of(content, where)):
            at = f"{where}.{j}"
            block = object_of(given, at)
            if block.get("type") == "tool_result":
                if parts:
                    self._notes.add("tool results were moved before the words beside them")
                made.append(self._tool_result(block, at, from_tools))
            else:
                parts.extend(self._parts(block, at))
        if from_tools:
            self._notes.add("images in tool results were moved into the user message after them")
        parts = from_tools + parts
        if parts or not made or made[-1]["role"] != "tool":
            made.append({"role": "user", "content": _plain(parts)})

    def _parts(self, block: Mapping[str, Any], at: str) -> list[Json]:
        """A user's block as parts of content."""
        kind = block.get("type")
        if kind == "text":
            return [self._text(block, at)]
        if kind == "image":
            return [self._marked(self._image(block, at), block)]
        if kind == "document":
            return self._document(block, at)
        if kind == "search_result":
            title, source = block.get("title"), block.get("source")
            inner = [
                text_of(object_of(part, at).get("text"), f"{at}.content")
                for part in list_of(block.get("content"), f"{at}.content")
            ]
            self._notes.add("search results are given as text: they cannot be cited")
            return [{"type": "text", "text": "\n".join([f"{title} ({source})", *inner])}]
        if not isinstance(kind, str):
            raise malformed(f"{at}.type", kind, "the type of a content block")
        raise untranslatable(at, f"chat completions have no user content like {kind!r}")

    def _image(self, block: Mapping[str, Any], at: str) -> Json:
        source = object_of(block.get("source"), f"{at}.source")
        kind = source.get("type")
        if kind == "base64":
            media = text_of(source.get("media_type"), f"{at}.source.media_type")
            data = text_of(source.get("data"), f"{at}.source.data")
            url = f"data:{media};base64,{data}"
        elif kind == "url":
            url = text_of(source.get("url"), f"{at}.source.url")
        else:
            raise untranslatable(f"{at}.source", f"an image by {kind!r} lies at Anthropic")
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: Mapping[str, Any], at: str) -> list[Json]:
        source = object_of(block.get("source"), f"{at}.source")
        title = block.get("title")
        named = isinstance(title, str) and bool(title)
        if object_of(block.get("citations") or {}, f"{at}.citations").get("enabled"):
            self._notes.add("citations were left out: chat completions do not know them")
        heading: list[Json] = []
        if isinstance(block.get("context"), str) and block["context"]:
            heading.append({"type": "text", "text": block["context"]})
        kind = source.get("type")
        if kind == "base64":
            media = source.get("media_type") or "application/pdf"
            data = text_of(source.get("data"), f"{at}.source.data")
            file = {
                "filename": title if named else "document.pdf",
                "file_data": f"data:{media};base64,{data}",
            }
            return [*heading, self._marked({"type": "file", "file": file}, block)]
        if named:
            heading.insert(0, {"type": "text", "text": str(title)})
        if kind == "text":
            text = text_of(source.get("data"), f"{at}.source.data")
            return [*heading, self._marked({"type": "text", "text": text}, block)]
        if kind == "content":
            inner = source.get("content")
            if isinstance(inner, str):
                return [*heading, {"type": "text", "text": inner}]
            for j, given in enumerate(list_of(inner, f"{at}.source.content")):
                where = f"{at}.source.content.{j}"
                heading.extend(self._parts(object_of(given, where), where))
            return heading
        raise untranslatable(f"{at}.source", f"chat completions take no document by {kind!r}")

    def _tool_result(self, block: Mapping[str, Any], at: str, images: list[Json]) -> Json:
        call = text_of(block.get("tool_use_id"), f"{at}.tool_use_id")
        content = block.get("content")
        texts: list[str] = []
        if isinstance(content, str):
            texts.append(content)
        elif content is not None:
            for j, given in enumerate(list_of(content, f"{at}.content")):
                where = f"{at}.content.{j}"
                inner = object_of(given, where)
                if inner.get("type") == "tool_reference":
                    raise untranslatable(where, "tools found by a search live at Anthropic")
                for part in self._parts(inner, where):
                    if part["type"] == "text":
                        texts.append(part["text"])
                        continue
                    words = f"Attached to the result of tool call {tool_id(call)}:"
                    heading = {"type": "text", "text": words}
                    images.extend([part] if heading in images else [heading, part])
        text = "\n".join(texts)
        if block.get("is_error") is True:
            text = TOOL_ERROR_MARK + text
            self._notes.add("failed tool results say so in words")
        self._marked({}, block)
        return {"role": "tool", "tool_call_id": tool_id(call), "content": text}

    def _assistant(self, content: Any, where: str) -> Json:
        if isinstance(content, str):
            return {"role": "assistant", "content": content}
        parts: list[Json] = []
        calls: list[Json] = []
        thoughts: list[str] = []
        for j, given in enumerate(list_of(content, where)):
            at = f"{where}.{j}"
            block = object_of(given, at)
            kind = block.get("type")
            if kind == "text":
                parts.append(self._text(block, at))
            elif kind == "tool_use":
                calls.append(self._call(block, at))
            elif kind == "thinking" and self._dialect.reasoning_content:
                thoughts.append(text_of(block.get("thinking"), f"{at}.thinking"))
            elif kind in ("thinking", "redacted_thinking"):
                self._notes.add("thinking was left out: only the model that thought can read it")
            elif not isinstance(kind, str):
                raise malformed(f"{at}.type", kind, "the type of a content block")
            else:
                raise untranslatable(at, f"chat completions have no answers like {kind!r}")
        made: Json = {"role": "assistant", "content": _plain(parts)}
        if calls:
            made["content"] = made["content"] or None
            made["tool_calls"] = calls
        if thoughts:
            made["reasoning_content"] = "\n".join(thoughts)
        return made

    def _call(self, block: Mapping[str, Any], at: str) -> Json:
        arguments = object_of(block.get("input"), f"{at}.input")
        return {
            "id": tool_id(text_of(block.get("id"), f"{at}.id")),
            "type": "function",
            "function": {
                "name": self._tool_name(block.get("name"), f"{at}.name"),
                "arguments": dumps(dict(arguments)).decode(),
            },
        }

    # -- all else --------------------------------------------------------------------------------

    def _tool_name(self, given: Any, at: str) -> str:
        name = text_of(given, at)
        longest = self._dialect.longest_tool_name
        if longest is not None and len(name) > longest:
            raise untranslatable(
                at, f"the upstream takes {longest} characters in a tool's name, not {len(name)}"
            )
        return name

    def _tools(self, made: Json) -> None:
        given = self._body.get("tools")
        if not given:
            return
        tools = []
        for i, tool in enumerate(list_of(given, "tools")):
            at = f"tools.{i}"
            tool = object_of(tool, at)
            kind = tool.get("type")
            if kind not in (None, "custom"):
                raise untranslatable(at, f"the tool {kind!r} is known to Anthropic's models alone")
            function: Json = {"name": self._tool_name(tool.get("name"), f"{at}.name")}
            if tool.get("description") is not None:
                function["description"] = tool["description"]
            schema = object_of(tool.get("input_schema"), f"{at}.input_schema")
            function["parameters"] = dict(schema)
            if isinstance(tool.get("strict"), bool):
                function["strict"] = tool["strict"]
            for name in ("defer_loading", "input_examples", "allowed_callers"):
                if tool.get(name):
                    self._notes.add(f"{name} of tools was left out: only Anthropic knows it")
            self._marked({}, tool)
            tools.append({"type": "function", "function": function})
        made["tools"] = tools
        choice = self._body.get("tool_choice")
        if choice is None:
            return
        choice = object_of(choice, "tool_choice")
        kind = choice.get("type")
        if kind == "tool":
            name = self._tool_name(choice.get("name"), "tool_choice.name")
            made["tool_choice"] = {"type": "function", "function": {"name": name}}
        elif kind in ("auto", "any", "none"):
            made["tool_choice"] = "required" if kind == "any" else kind
        else:
            raise malformed("tool_choice.type", kind, "auto, any, tool or none")
        if choice.get("disable_parallel_tool_use") is True:
            made["parallel_tool_calls"] = False

    def _effort(self, made: Json) -> None:
        config = object_of(self._body.get("output_config") or {}, "output_config")
        thinking = object_of(self._body.get("thinking") or {}, "thinking")
        effort = config.get("effort")
        kind = thinking.get("type")
        if effort is None and kind == "enabled":
            budget = thinking.get("budget_tokens")
            if isinstance(budget, bool) or not isinstance(budget, int):
                raise malformed("thinking.budget_tokens", budget, "a whole number of tokens")
            effort = "low" if budget <= _LOW_BUDGET else "high"
            effort = "medium" if _LOW_BUDGET < budget <= _MEDIUM_BUDGET else effort
            self._notes.add("the thinking budget is told as a reasoning effort")
        if effort is None:
            if kind not in (None, "disabled"):
                self._notes.add("thinking was left to the upstream: no effort is named")
            return
        if not self._dialect.reasoning_effort:
            self._notes.add("the reasoning effort was left out: the model may not take it")
        else:
            made["reasoning_effort"] = "xhigh" if effort == "max" else effort

    def _format(self, made: Json) -> None:
        config = object_of(self._body.get("output_config") or {}, "output_config")
        wanted = config.get("format") or self._body.get("output_format")
        for name in config.keys() - {"format", "effort"}:
            self._notes.add(f"output_config.{name} was left out: chat completions do not know it")
        if wanted is None:
            return
        wanted = object_of(wanted, "output_config.format")
        if wanted.get("type") != "json_schema":
            raise untranslatable("output_config.format", f"no format like {wanted.get('type')!r}")
        schema = object_of(wanted.get("schema"), "output_config.format.schema")
        made["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
        }

    def _user(self, made: Json) -> None:
        metadata = object_of(self._body.get("metadata") or {}, "metadata")
        user = metadata.get("user_id")
        if not isinstance(user, str) or not user:
            return
        if len(user) > _LONGEST_USER:
            user = sha256(user.encode("utf-8", "replace")).hexdigest()[:_LONGEST_USER]
            self._notes.add("metadata.user_id, too long for OpenAI, is told as a hash")
        made["user"] = user


def _plain(parts: Sequence[Json]) -> str | list[Json]:
    """Parts as content; a single text as a string, which every server takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return list(parts)
