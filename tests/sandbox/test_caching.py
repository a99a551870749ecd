from __future__ import annotations

from typing import Any

from zerorouter.sandbox.caching import STEP_TOKENS, PromptCache

LONG = "The minutes of the works council. " * 400
MARK = {"type": "ephemeral"}


def chat(*turns: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]}


def claude(system: str, *turns: str, mark: bool = True) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": system}
    if mark:
        block["cache_control"] = MARK
    return {"system": [block], **chat(*turns)}


def test_a_conversation_that_goes_on_reads_what_it_sent_before():
    cache = PromptCache()
    assert cache.use("openai", "able", chat(LONG), 4_000).read_tokens == 0
    longer = cache.use("openai", "able", chat(LONG, "I see.", "And then?"), 4_010)
    assert 3_700 < longer.read_tokens < 4_010
    assert longer.read_tokens % STEP_TOKENS == 0
    assert longer.write_tokens == 0


def test_another_model_or_another_beginning_reads_nothing():
    cache = PromptCache()
    cache.use("openai", "able", chat(LONG), 4_000)
    assert cache.use("openai", "thinker", chat(LONG), 4_000).read_tokens == 0
    assert cache.use("openai", "able", chat("First: " + LONG), 4_000).read_tokens == 0


def test_a_short_prompt_is_not_cached():
    cache = PromptCache()
    for _ in range(2):
        assert cache.use("openai", "able", chat("Hello."), 1_023).read_tokens == 0


def test_the_same_prompt_again_leaves_something_to_compute():
    cache = PromptCache()
    cache.use("openai", "able", chat(LONG), 1_280)
    assert cache.use("openai", "able", chat(LONG), 1_280).read_tokens == 1_152


def test_anthropic_writes_up_to_the_mark_and_reads_it_later():
    cache = PromptCache()
    first = cache.use("anthropic", "able", claude(LONG, "One?"), 4_000)
    assert first.read_tokens == 0
    assert 3_900 < first.write_tokens < 4_000
    second = cache.use("anthropic", "able", claude(LONG, "Two?"), 4_000)
    assert second.read_tokens == first.write_tokens
    assert second.write_tokens == 0


def test_anthropic_caches_nothing_without_a_mark():
    cache = PromptCache()
    for _ in range(2):
        use = cache.use("anthropic", "able", claude(LONG, "One?", mark=False), 4_000)
        assert (use.read_tokens, use.write_tokens) == (0, 0)


def test_a_moved_mark_still_reads_the_beginning_it_marked_before():
    cache = PromptCache()
    cache.use("anthropic", "able", claude(LONG, "One?"), 4_000)
    body = claude(LONG, LONG, mark=True)
    body["messages"][0]["content"] = [{"type": "text", "text": LONG, "cache_control": MARK}]
    use = cache.use("anthropic", "able", body, 8_000)
    assert 3_900 < use.read_tokens < 4_100
    assert use.read_tokens + use.write_tokens > 7_900
