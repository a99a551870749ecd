"""Reading requests: what is the ask, what does it need, and what is refused."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import PromptError
from zerorouter.predict import prompt as prompt_module
from zerorouter.predict.prompt import (
    CAPABILITIES,
    CHUNK_CHARS,
    HARNESS_BLOCKS,
    HEAD_CHARS,
    LONG_TEXT_CHARS,
    MAX_PROMPT_CHARS,
    MEDIA_TOKENS,
    N_CHUNKS,
    TAIL_CHARS,
    read_prompt,
)

ASK = "How many kites can four children fly with ninety metres of string?"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {"name": "open_gate", "parameters": {"type": "object", "properties": {}}},
}
WIDEST_WINDOWS = HEAD_CHARS + TAIL_CHARS + N_CHUNKS * (CHUNK_CHARS + 1) + 1


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# --- the ask -----------------------------------------------------------------------------------


def test_a_string_and_a_single_user_message_read_alike() -> None:
    assert read_prompt(ASK) == read_prompt([user(ASK)])
    assert read_prompt(ASK) == read_prompt([user([{"type": "text", "text": ASK}])])


@given(st.text(min_size=1, max_size=80), st.booleans())
def test_any_string_reads_as_a_single_user_message_of_it(text: str, in_parts: bool) -> None:
    content: Any = [{"type": "text", "text": text}] if in_parts else text
    told = [{"role": "user", "content": content}]
    try:
        expected = read_prompt(told)
    except PromptError:
        with pytest.raises(PromptError, match="empty"):
            read_prompt(text)
    else:
        assert read_prompt(text) == expected


def test_an_ordinary_prompt_is_one_window_and_not_abridged() -> None:
    prompt = read_prompt(f"  {ASK}\n")
    assert prompt.text == ASK
    assert prompt.windows == (ASK,)
    assert prompt.chunks == ()
    assert not prompt.is_abridged
    assert prompt.ask_chars == len(ASK)
    assert prompt.n_chars == len(ASK) + 3
    assert prompt.n_turns == 1
    assert prompt.requirements == ()


def test_the_ask_is_the_last_user_message_not_the_system_prompt_or_the_answer() -> None:
    prompt = read_prompt(
        [
            {"role": "system", "content": "Answer like a harbour master."},
            user("What is the depth of the harbour at low tide?"),
            assistant("About four metres."),
            user(ASK),
            assistant("Let me think"),
        ]
    )
    assert prompt.text == ASK
    assert prompt.n_turns == 2
    assert prompt.system_chars == len("Answer like a harbour master.")
    assert prompt.n_chars > len(ASK) + prompt.system_chars


def test_developer_messages_count_as_system() -> None:
    prompt = read_prompt([{"role": "developer", "content": "Be brief."}, user(ASK)])
    assert prompt.system_chars == len("Be brief.")


@pytest.mark.parametrize("short", ["continue", "yes", "and the second one?"])
def test_a_very_short_ask_is_read_with_the_one_before_it(short: str) -> None:
    prompt = read_prompt([user(ASK), assistant("Four."), user(short)])
    assert prompt.text == f"{ASK}\n{short}"


def test_a_row_of_short_asks_goes_back_to_the_last_full_one() -> None:
    older = "Something said long before that no longer matters."
    messages = [user(older), assistant("."), user(ASK), assistant("."), user("yes")]
    assert read_prompt([*messages, assistant("."), user("go on")]).text == f"{ASK}\nyes\ngo on"


def test_a_short_ask_alone_stands_for_itself() -> None:
    assert read_prompt("hi").text == "hi"


def test_text_parts_of_one_message_are_one_ask() -> None:
    prompt = read_prompt(
        [user([{"type": "input_text", "text": ASK}, {"type": "text", "text": "Show the work."}])]
    )
    assert prompt.text == f"{ASK}\nShow the work."


# --- harness noise -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HARNESS_BLOCKS)
def test_harness_blocks_are_cut_out_of_the_ask(name: str) -> None:
    noise = f"<{name}>\nThe working folder is /srv/kites.\n</{name}>"
    assert read_prompt(f"{noise}\n{ASK}").text == ASK
    assert read_prompt(f"{ASK}\n{noise}{noise}").text == ASK


def test_a_harness_tag_may_carry_attributes_but_not_a_longer_name() -> None:
    assert read_prompt(f'<tool_result id="7">done</tool_result> {ASK}').text == ASK
    kept = f"<tool_results>done</tool_results> {ASK}"
    assert read_prompt(kept).text == kept


def test_a_user_message_made_of_harness_blocks_is_not_the_ask() -> None:
    messages = [user(ASK), assistant("."), user("<system-reminder>Be tidy.</system-reminder>")]
    prompt = read_prompt(messages)
    assert prompt.text == ASK
    assert prompt.n_turns == 1


def test_wrappers_around_the_ask_lose_only_their_tags() -> None:
    assert read_prompt(f"<user_query>\n{ASK}\n</user_query>").text == ASK
    text = f"<command-name>/ask</command-name><command-args>{ASK}</command-args>"
    assert read_prompt(text).text == ASK


def test_an_unclosed_harness_tag_is_left_alone() -> None:
    text = f"Why does my page show <system-reminder> as text? {ASK}"
    assert read_prompt(text).text == text


def test_a_prompt_of_nothing_but_harness_blocks_is_still_read() -> None:
    text = "<system-reminder>Be tidy.</system-reminder>"
    assert read_prompt(text).text == text


def test_tool_results_are_not_the_ask() -> None:
    openai = [
        user(ASK),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "function": {"name": "open_gate", "arguments": '{"gate": 4}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "The gate is open. " * 20},
    ]
    anthropic = [
        user(ASK),
        assistant(
            [
                {"type": "thinking", "thinking": "A gate, then.", "signature": "x"},
                {"type": "tool_use", "id": "1", "name": "open_gate", "input": {"gate": 4}},
            ]
        ),
        user(
            [
                {"type": "tool_result", "tool_use_id": "1", "content": "The gate is open. " * 20},
                {"type": "text", "text": "<system-reminder>Be tidy.</system-reminder>"},
            ]
        ),
    ]
    for messages in (openai, anthropic):
        prompt = read_prompt(messages)
        assert prompt.text == ASK
        assert prompt.n_turns == 1
        assert prompt.requirements == ("tools",)
        assert prompt.n_chars > 360


def test_a_screenshot_inside_a_tool_result_needs_vision() -> None:
    result = {"type": "tool_result", "content": [{"type": "image", "source": {}}]}
    prompt = read_prompt([user(ASK), assistant("."), user([result])])
    assert prompt.requirements == ("tools", "vision")
    assert prompt.media == {"image": 1}


def test_a_conversation_of_tool_results_alone_falls_back_to_them() -> None:
    result = {"type": "tool_result", "content": [{"type": "text", "text": "The gate is open."}]}
    assert read_prompt([user([result])]).text == "The gate is open."


# --- needs, media, sizes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "kind", "capability"),
    [
        ({"type": "image_url", "image_url": {"url": PIXEL}}, "image", "vision"),
        ({"type": "image", "source": {"type": "base64", "data": "x"}}, "image", "vision"),
        ({"type": "input_image", "image_url": PIXEL}, "image", "vision"),
        ({"type": "input_audio", "input_audio": {"data": "x"}}, "audio", "audio"),
        ({"type": "audio"}, "audio", "audio"),
        ({"type": "video_url", "video_url": {"url": "https://kites.test"}}, "video", "video"),
        ({"type": "file", "file": {"file_id": "f"}}, "document", "documents"),
        ({"type": "document", "source": {}}, "document", "documents"),
    ],
)
def test_media_parts_are_counted_and_required(
    part: dict[str, Any], kind: str, capability: str
) -> None:
    prompt = read_prompt([user([part, {"type": "text", "text": ASK}])])
    assert prompt.media == {kind: 1}
    assert prompt.requirements == (capability,)
    assert prompt.text == ASK
    assert prompt.n_chars == len(ASK)  # base64 is not text
    assert prompt.media_tokens == MEDIA_TOKENS[kind]


def test_a_message_of_an_image_alone_is_a_prompt_with_empty_text() -> None:
    prompt = read_prompt([user([{"type": "image_url", "image_url": {"url": PIXEL}}])])
    assert prompt.text == ""
    assert prompt.windows == ("",)
    assert prompt.requirements == ("vision",)
    assert prompt.n_turns == 1


@pytest.mark.parametrize("part", [{"type": "hologram"}, {"type": None}, {"type": ["text"]}, {}])
def test_an_unknown_part_is_counted_and_never_an_error(part: dict[str, Any]) -> None:
    prompt = read_prompt([user([part, {"type": "text", "text": ASK}])])
    assert prompt.text == ASK
    assert prompt.media == {"other": 1}
    assert prompt.requirements == ()


def test_tools_and_json_are_required_where_the_request_asks_for_them() -> None:
    plain = read_prompt(ASK)
    prompt = read_prompt(ASK, tools=[TOOL, TOOL], response_format={"type": "json_object"})
    assert prompt.requirements == ("json", "tools")
    assert prompt.n_tools == 2
    assert prompt.n_chars >= plain.n_chars + 2 * len("open_gate")
    assert set(prompt.requirements) <= set(CAPABILITIES)


@pytest.mark.parametrize("response_format", [None, "text", {"type": "text"}, {}])
def test_plain_text_asks_for_no_json(response_format: Any) -> None:
    assert read_prompt(ASK, tools=[], response_format=response_format).requirements == ()


def test_tools_are_measured_about_like_their_json() -> None:
    tools = [TOOL] * 10
    counted = read_prompt(ASK, tools=tools).n_chars - len(ASK)
    assert counted == pytest.approx(len(json.dumps(tools)), rel=0.25)


def test_input_tokens_add_text_and_media_with_their_uncertainty() -> None:
    text = read_prompt("word " * 800).input_tokens
    assert text.mean == pytest.approx(1000)
    assert 0 < text.sd < text.mean
    images = [{"type": "image"}, {"type": "image"}]
    both = read_prompt([user([*images, {"type": "text", "text": "word " * 800}])])
    assert both.media_tokens.mean == 2 * MEDIA_TOKENS["image"].mean
    assert both.media_tokens.sd == 2 * MEDIA_TOKENS["image"].sd
    assert both.input_tokens.mean == pytest.approx(text.mean + both.media_tokens.mean)
    assert both.input_tokens.sd > text.sd


def test_without_media_no_media_tokens_are_expected() -> None:
    assert read_prompt(ASK).media_tokens == (0, 0)


def test_deeply_nested_arguments_are_measured_without_running_out_of_stack() -> None:
    nested: Any = "x"
    for _ in range(5_000):
        nested = {"deeper": nested}
    result: Any = "x"
    for _ in range(5_000):
        result = {"type": "tool_result", "content": [result]}
    messages = [user(ASK), assistant([{"type": "tool_use", "input": nested}]), user([result])]
    assert read_prompt(messages, tools=[nested]).text == ASK


# --- long and odd texts ------------------------------------------------------------------------


@pytest.mark.parametrize("n_chars", [LONG_TEXT_CHARS + 1, 100_000, 10_000_000])
def test_a_long_prompt_is_read_through_bounded_windows(n_chars: int) -> None:
    filler = "kites rise and fall over the bay; " * (n_chars // 34 + 1)
    text = f"First: {ASK} {filler}"[: n_chars - 5] + " end."
    prompt = read_prompt(text)
    assert prompt.is_abridged
    assert prompt.n_chars == prompt.ask_chars == n_chars
    assert len(prompt.windows) == N_CHUNKS + 2
    assert len(prompt.text) <= WIDEST_WINDOWS
    assert prompt.text.startswith("First: ")
    assert prompt.text.endswith(" end.")
    assert [len(chunk) for chunk in prompt.chunks] == [CHUNK_CHARS] * N_CHUNKS


def test_the_windows_of_a_long_prompt_are_in_order_and_do_not_overlap() -> None:
    text = "".join(f"{i:07d}" for i in range(20_000))
    windows = read_prompt(text).windows
    starts = [text.index(window) for window in windows]
    ends = [start + len(window) for start, window in zip(starts, windows, strict=True)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    gaps = [b - a for a, b in pairwise(starts[1:-1])]
    assert max(gaps) - min(gaps) <= 1


def test_a_text_at_the_limit_is_read_whole() -> None:
    prompt = read_prompt("k" * LONG_TEXT_CHARS)
    assert not prompt.is_abridged
    assert len(prompt.text) == LONG_TEXT_CHARS


def test_ten_megabytes_of_unclosed_tags_are_read_in_one_pass() -> None:
    prompt = read_prompt("<system-reminder>" * 588_000 + "</tool_result>")
    assert len(prompt.text) <= WIDEST_WINDOWS


def test_lone_surrogates_become_replacement_characters() -> None:
    prompt = read_prompt("kites \ud83d over the bay \udc00")
    assert prompt.text == "kites � over the bay �"
    prompt.text.encode("utf-8")


def test_nuls_become_spaces() -> None:
    assert read_prompt("kites\0over the bay").text == "kites over the bay"


def test_other_scripts_and_emoji_are_kept() -> None:
    text = "Драконы над заливом 🪁 風箏"
    assert read_prompt(text).text == text


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\0\0", "empty"),
        ([], "empty"),
        ([user("")], "empty"),
        ([user([])], "empty"),
        ([user([{"type": "text", "text": " "}])], "empty"),
        (None, "null"),
        (7, "int"),
        ({"role": "user", "content": ASK}, "dict"),
        (b"\xff\xfe", "decode"),
        (ASK.encode(), "decode"),
        (["hello there"], "message 0 is of type str"),
        ([{"role": "system", "content": ASK}], "none of the 1 messages is from the user"),
        ([assistant(ASK)], "from the user"),
        ([user(ASK), {"content": ASK}], "message 1 has no role"),
        ([{"role": 3, "content": ASK}], "role that is of type int"),
        ([{"role": "user"}], "no content"),
        ([user(None)], "no content"),
        ([user(12)], "content of message 0 is of type int"),
        ([user({"type": "text", "text": ASK})], "content of message 0 is of type dict"),
        ([user(b"kites")], "content of message 0 is of type bytes"),
        ([user([ASK, 5])], "part 1 of message 0 is of type int"),
        ([user([{"type": "text", "text": None}])], "null for text"),
        ([user([{"type": "text"}])], "null for text"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        read_prompt(value)


def test_a_conversation_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PROMPT_CHARS >= 10_000_000
    monkeypatch.setattr(prompt_module, "MAX_PROMPT_CHARS", 1_000)
    read_prompt("k" * 1_000)
    with pytest.raises(PromptError, match="1,001 characters; the limit is 1,000"):
        read_prompt("k" * 1_001)
    with pytest.raises(PromptError, match="the limit"):
        read_prompt([{"role": "system", "content": "k" * 990}, user("How many kites?")])


# --- laws --------------------------------------------------------------------------------------

texts = st.text(max_size=60)
parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    st.fixed_dictionaries({"type": texts}, optional={"content": texts, "input": texts}),
)
contents = st.one_of(texts, st.lists(parts, max_size=4))
roles = st.sampled_from(["user", "assistant", "system", "tool", "critic"])
conversations = st.lists(
    st.fixed_dictionaries({"role": roles, "content": contents}), min_size=1, max_size=6
)


@given(conversations)
def test_a_well_formed_conversation_is_read_or_refused_and_nothing_else(messages: Any) -> None:
    try:
        prompt = read_prompt(messages)
    except PromptError:
        return
    assert prompt.text.strip() or prompt.media
    assert prompt.n_turns >= 1
    assert list(prompt.requirements) == sorted(set(prompt.requirements) & set(CAPABILITIES))
    prompt.text.encode("utf-8")
    assert pickle.loads(pickle.dumps(prompt)) == prompt


@given(st.text(alphabet=st.characters(blacklist_characters="<\0"), min_size=1, max_size=200))
def test_a_text_without_tags_is_its_own_ask(text: str) -> None:
    if text.strip():
        assert read_prompt(text).text == text.strip()
