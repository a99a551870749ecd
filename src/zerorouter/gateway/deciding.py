"""``/v1/route``, ``/v1/route/batch`` and ``/v1/feedback``: decisions without an answer.

``POST /v1/route`` takes a chat request (``messages``, ``tools``, ``response_format``) or a
``prompt``, with the wishes of the ``zerorouter`` object at the top or in it, and answers with the
decision's JSON (DESIGN 2.5). ``POST /v1/route/batch`` takes ``prompts``, a list of texts or of
``{"prompt_id", "text" | "messages"}``; with ``budget_usd`` or another bound on the whole it is
assigned jointly, else each prompt is decided alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import re
from time import monotonic
from typing import Any, Final

from zerorouter.errors import WireError
from zerorouter.gateway.heads import HEADER_BYTES
from zerorouter.gateway.routing import decide, is_virtual
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Reply
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.gateway.wire.wishes import RequestWishes, read_wishes, wishes_from_headers

MOST_PROMPTS: Final = 10_000
_DECISION_ID: Final = re.compile(r"[0-9a-f]{8,64}")
_ASKED: Final = frozenset(
    {
        "messages",
        "prompt",
        "tools",
        "response_format",
        "model",
        "zerorouter",
        "stream",
        "max_tokens",
        "max_completion_tokens",
    }
)
_WHOLE: Final = frozenset({"budget_usd", "max_mean_latency_s", "max_p95_latency_s", "min_accuracy"})


async def decide_one(gateway: Gateway, asked: Asked) -> Reply:
    """``POST /v1/route``."""
    body = asked.json()
    wishes = _wishes(body, asked)
    prompt = body.get("messages", body.get("prompt"))
    if not isinstance(prompt, str | list):
        raise WireError(
            "messages: wanted a list of messages, or a 'prompt' as text", param="messages"
        )
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    model = body.get("model") or "zerorouter/auto"
    if not isinstance(model, str) or not is_virtual(model):
        raise WireError(
            f"model: found {str(model)[:80]!r}; wanted none, or one such as 'zerorouter/auto'",
            param="model",
        )
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise WireError("tools: wanted a list", param="tools")
    request = WireRequest(
        api=Api.CHAT,
        raw=asked.body,
        body=body,
        model=model,
        stream=False,
        include_usage=False,
        messages=messages,
        tools=tools,
        response_format=body.get("response_format"),
        max_tokens=_limit(body),
        n=1,
        user=None,
        session_id=None,
        output_modalities=(),
        wishes=wishes,
    )
    key_id = "" if asked.key is None else asked.key.id
    session = wishes.session_id
    cached = session and gateway.sessions.cached_tokens(key_id, session, monotonic())
    decision = decide(gateway.setup, request, wishes, asked.key, cached or None)
    if gateway.learning is not None:
        gateway.learning.remember_all([decision], key_id)
    return Reply(value=decision.to_dict())


async def decide_batch(gateway: Gateway, asked: Asked) -> Reply:
    """``POST /v1/route/batch``; in a thread, for it may take a while."""
    body = asked.json()
    prompts, ids = _prompts(body.get("prompts"))
    bounds: dict[str, Any] = {
        name: _number(body, name) for name in _WHOLE if body.get(name) is not None
    }
    told = {k: v for k, v in body.items() if k not in _WHOLE}
    wishes = _wishes({k: v for k, v in told.items() if k != "prompts"}, asked)
    setup = gateway.setup
    if setup.router is None:
        raise WireError("no model is on offer: no upstream serves one whose ability is known")
    router, deny = setup.router, (*setup.not_spoken(Api.CHAT), *wishes.deny)
    allow: tuple[str, ...] = wishes.allow
    if asked.key is not None and asked.key.models:
        allow = tuple(name for name in router.models if asked.key.allows(name))
    loop = asyncio.get_running_loop()
    if bounds:
        assignment = await loop.run_in_executor(
            None,
            lambda: router.assign(
                prompts, policy=wishes.policy, models=allow, exclude=deny, **bounds
            ),
        )
        rows = [
            {"prompt_id": i, **dataclasses.asdict(row)}
            for i, row in zip(ids, assignment.rows(), strict=True)
        ]
        return Reply(value={**assignment.to_dict(), "assignments": rows})
    decisions = await loop.run_in_executor(
        None,
        lambda: router.route_batch(
            prompts,
            policy=wishes.policy,
            models=allow,
            exclude=deny,
            max_cost_usd=wishes.max_cost_usd,
            max_latency_s=wishes.max_latency_s,
            confidence=wishes.confidence,
        ),
    )
    if gateway.learning is not None:
        key_id = "" if asked.key is None else asked.key.id
        await loop.run_in_executor(None, gateway.learning.remember_all, decisions, key_id)
    listed = [{"prompt_id": i, **d.to_dict()} for i, d in zip(ids, decisions, strict=True)]
    return Reply(value={"n": len(listed), "decisions": listed})


async def take_feedback(gateway: Gateway, asked: Asked) -> Reply:
    """``POST /v1/feedback``: kept before it is acknowledged; each decision is scored once."""
    body = asked.json()
    decision_id, score = body.get("decision_id"), body.get("score")
    if not isinstance(decision_id, str) or not _DECISION_ID.fullmatch(decision_id):
        raise WireError(
            "decision_id: wanted the one from the header x-zerorouter-decision-id or /v1/route",
            param="decision_id",
        )
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise WireError(
            f"score: found {str(score)[:40]}; wanted a number from 0 to 1", param="score"
        )
    known = set(body) - {"decision_id", "score"}
    if known:
        raise WireError(
            f"{sorted(known)[0][:80]}: unknown; wanted decision_id and score", param=min(known)[:80]
        )
    taken, learning = None, gateway.learning
    if learning is not None:
        key_id = "" if asked.key is None else asked.key.id
        taken = learning.feedback(decision_id, float(score), key_id)
    model = None if taken is None else taken.model
    gateway.books.feedback(decision_id, float(score), asked.key, model=model)
    gateway.log.write({"event": "feedback", "decision_id": decision_id, "score": float(score)})
    return Reply(
        value={
            "decision_id": decision_id,
            "score": float(score),
            "model": model,
            "recorded": True,
            "repeated": taken is not None and not taken.is_new,
        }
    )


def _wishes(body: dict[str, Any], asked: Asked) -> RequestWishes:
    """Wishes at the top of the body, in its ``zerorouter`` object and in headers, in this order."""
    top = {k: v for k, v in body.items() if k not in _ASKED}
    headers = {
        k.decode("latin-1"): v.decode("latin-1")
        for k, v in asked.headers.items()
        if k.startswith(HEADER_BYTES)
    }
    wishes = read_wishes(top).over(read_wishes(body.get("zerorouter")))
    return wishes.over(wishes_from_headers(headers)) if headers else wishes


def _prompts(told: Any) -> tuple[list[Any], list[str]]:
    if not isinstance(told, list) or not told:
        raise WireError("prompts: wanted a list of texts, or of objects with text", param="prompts")
    if len(told) > MOST_PROMPTS:
        raise WireError(
            f"prompts: found {len(told):,}; at most {MOST_PROMPTS:,} go in one request "
            "('zerorouter assign' takes files of any size)",
            param="prompts",
        )
    prompts: list[Any] = []
    ids: list[str] = []
    for i, one in enumerate(told):
        prompt, name = one, str(i)
        if isinstance(one, dict):
            prompt = one.get("messages", one.get("text"))
            name = str(one.get("prompt_id", i))
        if not isinstance(prompt, str | list):
            raise WireError(f"prompts.{i}: wanted a text or messages", param=f"prompts.{i}")
        prompts.append(prompt)
        ids.append(name)
    return prompts, ids


def _limit(body: dict[str, Any]) -> int | None:
    """The request's limit on the answer's tokens."""
    for name in ("max_completion_tokens", "max_tokens"):
        found = body.get(name)
        if found is None:
            continue
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found < 2**31:
            raise WireError(
                f"{name}: found {str(found)[:40]}; wanted a whole number of tokens", param=name
            )
        return found
    return None


def _number(body: dict[str, Any], name: str) -> float:
    found = body[name]
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise WireError(f"{name}: found {str(found)[:40]}; wanted a number", param=name)
    return float(found)
