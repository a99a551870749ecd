from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.predict.media import (
    ImageSize,
    anthropic_area,
    gemini_tiles,
    image_size,
    media_rules,
    openai_patches,
    openai_tiles,
)
from zerorouter.predict.prompt import read_prompt

GPT_4O = openai_tiles(85, 170)


# -- the vendors' own examples ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "detail", "tokens"),
    [(1024, 1024, "high", 765), (2048, 4096, "high", 1105), (4096, 8192, "low", 85)],
)
def test_openai_tiles_are_those_of_its_page(width, height, detail, tokens):
    assert GPT_4O(width, height, detail) == tokens


@pytest.mark.parametrize(("width", "height", "tokens"), [(1024, 1024, 1024), (1800, 2400, 1452)])
def test_openai_patches_are_those_of_its_page(width, height, tokens):
    assert openai_patches(1.0)(width, height, "") == tokens
    assert openai_patches(1.62)(width, height, "") == pytest.approx(1.62 * tokens)


@pytest.mark.parametrize(("side", "tokens"), [(200, 54), (1000, 1334), (1092, 1590)])
def test_anthropic_areas_are_those_of_its_page(side, tokens):
    assert anthropic_area(side, side) == pytest.approx(tokens, abs=1)


def test_anthropic_scales_large_images_down_before_it_counts():
    assert anthropic_area(4000, 4000) == 1600
    assert anthropic_area(3136, 784) == pytest.approx(1568 * 392 / 750)


def test_gemini_counts_small_images_once_and_others_by_tile():
    assert gemini_tiles(384, 384) == 258
    assert gemini_tiles(600, 400) == 258
    assert gemini_tiles(1024, 1024) == 4 * 258


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from(["low", "high", ""]))
def test_no_image_costs_less_than_nothing_or_more_than_vendors_allow(width, height, detail):
    for vendor, name, most in (
        ("openai", "gpt-4o", 1445),
        ("openai", "gpt-4.1-mini", 1536 * 1.62),
        ("anthropic", "claude-3-5-sonnet", 1600),
        ("qwen", "qwen2.5-vl-72b", 16_386),
    ):
        rule = media_rules(vendor, name).image
        assert rule is not None
        assert 0 < rule(width, height, detail) <= most


def test_the_same_photo_costs_thirty_times_as_many_tokens_on_the_small_model():
    typical = {
        name: media_rules("openai", name).typical()["image"] for name in ("gpt-4o", "gpt-4o-mini")
    }
    assert typical == {"gpt-4o": 765, "gpt-4o-mini": 2833 + 4 * 5667}


def test_a_vendor_that_publishes_nothing_has_no_rule():
    assert media_rules("acme", "roadrunner").typical() == {}
    assert set(media_rules("google", "gemini-2.0-flash").typical()) == {
        *("image", "audio", "video", "document")
    }


# -- the size of an image in a request -------------------------------------------------------------


def png(width, height):
    head = struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def jpeg(width, height, notes=40_000):
    start = b"\xff\xd8\xff\xe1" + struct.pack(">H", notes + 2) + b"\0" * notes
    return start + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + b"\x03" + b"\0" * 20


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 10


def webp(width, height):
    packed = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + b"\0" * 4 + b"WEBPVP8X" + b"\0" * 8 + packed + b"\0" * 10


def lossless_webp(width, height):
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF" + b"\0" * 4 + b"WEBPVP8L" + b"\0" * 4 + b"\x2f" + struct.pack("<I", bits) + b"\0"


def openai(raw, detail="auto"):
    data = base64.b64encode(raw).decode()
    address = {"url": f"data:image/png;base64,{data}", "detail": detail}
    return {"type": "image_url", "image_url": address}


@pytest.mark.parametrize("made", [png, jpeg, gif, webp, lossless_webp])
@given(st.integers(1, 16_000), st.integers(1, 16_000))
def test_the_size_of_an_image_is_read_from_its_head(made, width, height):
    raw = made(width, height)
    assert image_size(openai(raw)) == ImageSize(width, height, "auto")
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(raw).decode()}
    assert image_size({"type": "image", "source": source}) == ImageSize(width, height)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reading_of_a_size(raw):
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a"):
        size = image_size(openai(head + raw))
        assert size is None or min(size.width, size.height) >= 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,!!!"}},
        {"type": "image_url", "image_url": {"url": 5}},
        {"type": "image_url"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    ],
)
def test_an_image_that_is_not_in_the_request_has_no_known_size(part):
    assert image_size(part) is None
    prompt = read_prompt([{"role": "user", "content": [part]}])
    assert (prompt.media, prompt.images) == ({"image": 1}, ())


def test_sizes_are_read_with_the_request():
    parts = [openai(png(64, 32), "low"), {"type": "text", "text": "What is this?"}]
    prompt = read_prompt([{"role": "user", "content": parts}])
    assert prompt.images == (ImageSize(64, 32, "low"),)
