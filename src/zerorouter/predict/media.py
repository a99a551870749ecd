"""How many input tokens an image, a sound, a film or a PDF page costs, by vendors' own rules.

Every function states the rule it follows and where the vendor publishes it; all were read in
November 2026. Where no rule is published, or the request does not tell how large a medium is,
`prompt.MEDIA_TOKENS` and the typical sizes below stand in.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

ImageRule: TypeAlias = Callable[[int, int, str], float]  # (width, height, detail) -> tokens

TYPICAL_IMAGE: Final = (1024, 1024)  # pixels, of an image that came as an address
TYPICAL_SECONDS: Final = 30.0  # of a sound or a film
TYPICAL_PAGES: Final = 5.0  # of a document


# -- images ----------------------------------------------------------------------------------------


def openai_tiles(base: float, tile: float) -> ImageRule:
    """OpenAI's tile rule: 512 px tiles after two resizings, plus a base.

    https://platform.openai.com/docs/guides/images-vision, "GPT-4o, GPT-4.1, GPT-4.5, o-series":
    low detail costs ``base``. Else the image is scaled to fit 2048 x 2048, then down to a shortest
    side of 768 px, and each 512 x 512 tile it then needs costs ``tile``.
    """

    def tokens(width: int, height: int, detail: str) -> float:
        if detail == "low":
            return base
        scale = min(1.0, 2048 / max(width, height))
        w, h = width * scale, height * scale
        scale = min(1.0, 768 / min(w, h))
        w, h = w * scale, h * scale
        return base + tile * _cells(w, 512) * _cells(h, 512)

    return tokens


def openai_patches(multiplier: float, most: int = 1536) -> ImageRule:
    """OpenAI's patch rule: 32 px patches, at most 1,536, times a multiplier of the model.

    https://platform.openai.com/docs/guides/images-vision, "GPT-4.1-mini, GPT-4.1-nano, o4-mini"
    and their successors. An image of more patches is scaled down until it has no more than that.
    """

    def tokens(width: int, height: int, detail: str) -> float:
        del detail
        patches = _cells(width, 32) * _cells(height, 32)
        if patches > most:
            shrink = math.sqrt(32 * 32 * most / (width * height))
            across, down = width * shrink / 32, height * shrink / 32
            shrink *= min(math.floor(across) / across, math.floor(down) / down)
            patches = min(_cells(width * shrink, 32) * _cells(height * shrink, 32), most)
        return patches * multiplier

    return tokens


def anthropic_area(width: int, height: int, detail: str = "") -> float:
    """Anthropic: ``width * height / 750``, after a resize to at most 1,568 px and 1,568 patches.

    https://docs.anthropic.com/en/docs/build-with-claude/vision: an image whose long edge exceeds
    1,568 px, or that would cost more than about 1,600 tokens, is scaled down first.
    """
    del detail
    scale = min(1.0, 1568 / max(width, height))
    return min(width * scale * height * scale / 750, 1600.0)


def gemini_tiles(width: int, height: int, detail: str = "") -> float:
    """Google, Gemini 2.0 and later: 258 tokens per tile of 768 px; 258 for small images.

    https://ai.google.dev/gemini-api/docs/tokens: both sides at most 384 px count as one tile.
    """
    del detail
    if width <= 384 and height <= 384:
        return 258.0
    return 258.0 * _cells(width, 768) * _cells(height, 768)


def gemini_flat(width: int, height: int, detail: str = "") -> float:
    """Google, Gemini 1.5 and before: 258 tokens per image, whatever its size (same page)."""
    del width, height, detail
    return 258.0


def mistral_patches(patch: int, largest: int) -> ImageRule:
    """Mistral's vision models: one token per patch, and one per row for the line break.

    https://docs.mistral.ai/capabilities/vision and the package mistral-common: the image is scaled
    to at most ``largest`` px a side; Pixtral has 16 px patches and 1,024 px, the later models
    14 px merged two by two and 1,540 px.
    """

    def tokens(width: int, height: int, detail: str) -> float:
        del detail
        scale = min(1.0, largest / max(width, height))
        across, down = _cells(width * scale, patch), _cells(height * scale, patch)
        return float((across + 1) * down)

    return tokens


def qwen_patches(width: int, height: int, detail: str = "") -> float:
    """Qwen-VL: one token per 28 px patch, 4 to 16,384 of them (model card of Qwen2-VL)."""
    del detail
    return float(min(max(_cells(width, 28) * _cells(height, 28), 4), 16_384) + 2)


def _cells(length: float, size: int) -> int:
    return max(math.ceil(length / size - 1e-9), 1)


# -- sound, film, pages ----------------------------------------------------------------------------

GEMINI_AUDIO_PER_S: Final = 32.0
"""https://ai.google.dev/gemini-api/docs/tokens: audio is 32 tokens per second."""
GEMINI_VIDEO_PER_S: Final = 263.0
"""Same page: video is 263 tokens per second."""
GEMINI_PAGE: Final = 258.0
"""https://ai.google.dev/gemini-api/docs/document-processing: each page counts as one image."""
OPENAI_AUDIO_PER_S: Final = 10.0
"""https://platform.openai.com/docs/guides/realtime-costs: a token per 100 ms of a user's audio."""
ANTHROPIC_PAGE: Final = 2250.0 + 1600.0
"""https://docs.anthropic.com/en/docs/build-with-claude/pdf-support: 1,500 to 3,000 tokens of text a
page, and the page as an image."""


@dataclass(frozen=True, kw_only=True)
class MediaRules:
    """How a model counts media; None where its vendor publishes nothing.

    Attributes:
        image: (width, height, detail) to tokens.
        audio_per_s: Tokens a second of sound.
        video_per_s: Tokens a second of film.
        page: Tokens a page of a PDF file.
    """

    image: ImageRule | None = None
    audio_per_s: float | None = None
    video_per_s: float | None = None
    page: float | None = None

    def typical(self) -> Mapping[str, float]:
        """Tokens of a medium of typical size by kind, for those kinds that there is a rule for."""
        known = {
            "image": None if self.image is None else self.image(*TYPICAL_IMAGE, "high"),
            "audio": _times(self.audio_per_s, TYPICAL_SECONDS),
            "video": _times(self.video_per_s, TYPICAL_SECONDS),
            "document": _times(self.page, TYPICAL_PAGES),
        }
        return {kind: tokens for kind, tokens in known.items() if tokens is not None}


def _times(rate: float | None, amount: float) -> float | None:
    return None if rate is None else rate * amount


_GEMINI = MediaRules(
    image=gemini_tiles,
    audio_per_s=GEMINI_AUDIO_PER_S,
    video_per_s=GEMINI_VIDEO_PER_S,
    page=GEMINI_PAGE,
)
_GEMINI_1 = MediaRules(
    image=gemini_flat,
    audio_per_s=GEMINI_AUDIO_PER_S,
    video_per_s=GEMINI_VIDEO_PER_S,
    page=GEMINI_PAGE,
)


def _openai(image: ImageRule) -> MediaRules:
    return MediaRules(image=image, audio_per_s=OPENAI_AUDIO_PER_S)


# Vendor and shell pattern of the model's name, the first that fits; tokens per base and tile, and
# multipliers per patch, are those of OpenAI's table.
_RULES: tuple[tuple[str, str, MediaRules], ...] = (
    ("openai", "gpt-4o-mini*", _openai(openai_tiles(2833, 5667))),
    ("openai", "gpt-4.1-mini*", _openai(openai_patches(1.62))),
    ("openai", "gpt-4.1-nano*", _openai(openai_patches(2.46))),
    ("openai", "gpt-5*-mini*", _openai(openai_patches(1.62))),
    ("openai", "gpt-5*-nano*", _openai(openai_patches(2.46))),
    ("openai", "o4-mini*", _openai(openai_patches(1.72))),
    ("openai", "o[13]*", _openai(openai_tiles(75, 150))),
    ("openai", "gpt-5*", _openai(openai_tiles(70, 140))),
    ("openai", "*", _openai(openai_tiles(85, 170))),
    ("anthropic", "*", MediaRules(image=anthropic_area, page=ANTHROPIC_PAGE)),
    ("google", "gemini-1*", _GEMINI_1),
    ("google", "gemini-*", _GEMINI),
    ("mistral", "pixtral*", MediaRules(image=mistral_patches(16, 1024))),
    ("mistral", "*", MediaRules(image=mistral_patches(28, 1540))),
    ("qwen", "*", MediaRules(image=qwen_patches)),
)
_UNKNOWN = MediaRules()


def media_rules(vendor: str, name: str) -> MediaRules:
    """How a vendor's model counts media; rules without content where nothing is published."""
    for maker, pattern, rules in _RULES:
        if maker == vendor and fnmatchcase(name, pattern):
            return rules
    return _UNKNOWN


# -- the size of an image in a request -------------------------------------------------------------

_DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+;base64,")
_HEAD_CHARS: Final = 65_536  # of base64: a JPEG may carry 40 kB of notes before its size
_SIZES_JPEG: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Pixels of an image, and the detail it is asked to be read in ("" where not said)."""

    width: int
    height: int
    detail: str = ""


def image_size(part: Mapping[str, Any]) -> ImageSize | None:
    """The size of an image part of a message, where the image itself is in the request.

    Reads OpenAI's ``image_url`` and ``input_image`` and Anthropic's ``image`` with base64 data;
    PNG, JPEG, GIF and WebP. None for an address on the web or a format not known.
    """
    detail, data = "", None
    value = part.get("image_url")
    if isinstance(value, Mapping):
        detail, data = str(value.get("detail") or ""), value.get("url")
    elif isinstance(value, str):
        detail, data = str(part.get("detail") or ""), value
    source = part.get("source")
    if isinstance(source, Mapping) and source.get("type") == "base64":
        data = source.get("data")
    elif isinstance(data, str):
        match = _DATA_ADDRESS.match(data[:100])
        data = data[match.end() : match.end() + _HEAD_CHARS] if match else None
    if not isinstance(data, str):
        return None
    head = data[:_HEAD_CHARS]
    try:
        raw = base64.b64decode(head[: len(head) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    size = _size_of(raw)
    return None if size is None or min(size) < 1 else ImageSize(*size, detail)


def _size_of(raw: bytes) -> tuple[int, int] | None:
    if raw[:8] == b"\x89PNG\r\n\x1a\n" and len(raw) >= 24:
        return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")
    if raw[:6] in (b"GIF87a", b"GIF89a") and len(raw) >= 10:
        return int.from_bytes(raw[6:8], "little"), int.from_bytes(raw[8:10], "little")
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return _webp_size(raw)
    if raw[:2] == b"\xff\xd8":
        return _jpeg_size(raw)
    return None


def _webp_size(raw: bytes) -> tuple[int, int] | None:
    kind = raw[12:16]
    if kind == b"VP8X" and len(raw) >= 30:
        return int.from_bytes(raw[24:27], "little") + 1, int.from_bytes(raw[27:30], "little") + 1
    if kind == b"VP8 " and len(raw) >= 30:
        width, height = (int.from_bytes(raw[i : i + 2], "little") & 0x3FFF for i in (26, 28))
        return width, height
    if kind == b"VP8L" and len(raw) >= 25:
        bits = int.from_bytes(raw[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return None


def _jpeg_size(raw: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(raw):
        if raw[at] != 0xFF:
            return None
        marker = raw[at + 1]
        if marker in _SIZES_JPEG:
            return (
                int.from_bytes(raw[at + 7 : at + 9], "big"),
                int.from_bytes(raw[at + 5 : at + 7], "big"),
            )
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None
