"""Members of a ZIP archive one at a time, also those compressed with Zstandard.

The standard library's `zipfile` reads the directory; members are read here, since it knows
Zstandard (method 93, which Inspect writes) only from Python 3.14 on.
"""

from __future__ import annotations

import importlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

from zerorouter.data.logs.json_files import opened
from zerorouter.data.tables import fault
from zerorouter.errors import DataError, MissingExtraError, require_extra

MAX_MEMBER_BYTES: Final = 1 << 29
"""The largest member that is read, unpacked."""

Unpack: TypeAlias = Callable[[bytes, int], bytes]
"""Unpacks packed bytes into at most so many."""

_ZSTANDARD = 93
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_SIGNATURE = b"PK\x03\x04"
_SLACK = 64  # bytes by which a member's own header may be longer than the directory says


class Archive:
    """An open archive; made by `open_archive`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        # A name that stands twice was written again: the last one counts.
        self._members = {info.filename: info for info in archive.infolist()}

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, each once, in the archive's order."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, unpacked."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            DataError: It is damaged, encrypted, or packed in a way nobody here can unpack.
            MissingExtraError: It is packed with Zstandard and nothing that unpacks it is installed.
        """
        info = self._members[name]
        stream: Any = self._archive.fp
        if info.flag_bits & 1:
            raise self._fault(name, "an encrypted member", "a plain log")
        # Name and extra fields may differ from the directory's; a member mostly comes in one read.
        about = _LOCAL_HEADER.size + len(info.filename) + len(info.extra) + _SLACK
        try:
            stream.seek(info.header_offset)
            member = stream.read(about + info.compress_size)
            if len(member) < _LOCAL_HEADER.size or member[:4] != _SIGNATURE:
                raise self._fault(name, "no member where the directory says", "a whole archive")
            fields = _LOCAL_HEADER.unpack_from(member)
            start = _LOCAL_HEADER.size + fields[9] + fields[10]  # past name and extra fields
            stop = start + info.compress_size
            if len(member) < stop:
                member += stream.read(stop - len(member))
            packed = member[start:stop]
            raw = _unpack(info, packed, lambda: self._unpack_zstandard)
        except (OSError, zlib.error, ValueError, EOFError) as error:
            raise self._fault(name, f"a damaged member ({error})", "a whole archive") from error
        if len(raw) != info.file_size or zlib.crc32(raw) != info.CRC:
            raise self._fault(name, "a member whose checksum is wrong", "a whole archive")
        return raw

    @cached_property
    def _unpack_zstandard(self) -> Unpack:
        return _zstandard()  # found once an archive: a search takes as long as a small member

    def _fault(self, name: str, found: str, wanted: str) -> DataError:
        return fault(
            self._path,
            where=name,
            found=found,
            wanted=wanted,
            todo="copy or write the log again",
        )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """A ZIP archive.

    Raises:
        DataError: It is none, or is cut off.
    """
    with opened(path) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            stream.seek(0)
            begun = stream.read(4) == _SIGNATURE
            raise fault(
                path,
                found=f"a ZIP archive that ends early ({error})"
                if begun
                else f"no ZIP archive ({error})",
                wanted="a whole archive, with its directory at the end",
                todo="copy it again, or have the tool recover the run that was cut off"
                if begun
                else "check the path",
            ) from error
        with archive:
            yield Archive(path, archive)


def _unpack(info: zipfile.ZipInfo, packed: bytes, zstandard: Callable[[], Unpack]) -> bytes:
    # Never more than the directory promises, and never more than the limit.
    limit = info.file_size + 1
    if info.file_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{info.file_size:,} bytes; the limit is {MAX_MEMBER_BYTES:,}")
    if info.compress_type == zipfile.ZIP_STORED:
        return packed
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
    if info.compress_type == _ZSTANDARD:
        return zstandard()(packed, info.file_size)
    raise ValueError(f"compression method {info.compress_type}; known: 0, 8 and 93")


def _zstandard() -> Unpack:
    """Unpacks all frames of a text into at most so many bytes, with whatever is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return lambda packed, size: _frames(module, packed, size)
    require_zstandard()
    arrow = importlib.import_module("pyarrow")
    return lambda packed, size: bytes(
        arrow.decompress(packed, decompressed_size=size, codec="zstd", asbytes=True)
    )


def require_zstandard() -> None:
    """Raise `MissingExtraError` with the install line where nothing unpacks Zstandard."""
    try:
        require_extra("pyarrow", "fit", "reading logs packed with Zstandard before Python 3.14")
    except MissingExtraError as error:
        raise MissingExtraError(f"{error} (or: pip install backports.zstd)") from None


def _frames(module: Any, packed: bytes, size: int) -> bytes:
    parts: list[bytes] = []
    left = size + 1
    while packed and left > 0:
        unpacker = module.ZstdDecompressor()
        try:
            part = unpacker.decompress(packed, left)
        except getattr(module, "ZstdError", EOFError) as error:
            raise ValueError(str(error)) from error
        if not unpacker.eof and len(part) < left:
            raise EOFError("it ends early")
        parts.append(part)
        left -= len(part)
        packed = unpacker.unused_data
    return b"".join(parts)
