"""Folders of arrays and facts: safetensors and JSON, versioned, checked, never pickle.

A folder holds ``arrays.safetensors`` and ``manifest.json``. The manifest names its format,
the format's version and the SHA-256 of the arrays, so that damage and mixtures of two saves
are noticed. Saving is atomic: the folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerorouter.errors import ArtifactError, CorruptArtifactError, NewerArtifactError

ARRAYS = "arrays.safetensors"
MANIFEST = "manifest.json"


def save_folder(
    folder: Path,
    *,
    format_name: str,
    format_version: int,
    arrays: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write a folder; an older one at the same place is replaced only once the new one is whole.

    Raises:
        ArtifactError: the place is taken by something else, or cannot be written.
    """
    from safetensors.numpy import save  # only savers pay for the import

    payload = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    manifest = {
        "format": format_name,
        "format_version": format_version,
        "arrays_sha256": hashlib.sha256(payload).hexdigest(),
        **facts,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    require_place(folder, format_name=format_name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(fresh / ARRAYS, payload)
            _write(fresh / MANIFEST, text.encode())
            fresh.chmod(0o755)
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
                folder.replace(old)
                fresh.replace(folder)
                shutil.rmtree(old)
            else:
                fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"cannot write {folder}: {error}") from error


def require_place(folder: Path, *, format_name: str) -> None:
    """Refuse a place that a save would not take; worth asking before hours of work.

    Raises:
        ArtifactError: something else stands there, or stands in the way.
    """
    if folder.exists() and not _replaceable(folder, format_name):
        raise ArtifactError(
            f"{folder} exists and is not a {format_name} folder; choose another place or remove it"
        )
    nearest = next(parent for parent in folder.absolute().parents if parent.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise ArtifactError(f"cannot write {folder}: {nearest} is not a folder that can be written")


class Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a folder, each read when it is asked for. Made by `open_folder`.

    They stay those that were opened: a save in their place makes another file.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        opened: Any = safe_open(path, framework="np")
        self._file = opened
        self._names = tuple(opened.keys())
        self._known = frozenset(self._names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._known:
            raise KeyError(name)
        found: NDArray[Any] = self._file.get_tensor(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_folder(
    folder: Path, *, format_name: str, newest_version: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a folder back as (arrays, manifest); see `open_folder` for what it raises."""
    arrays, manifest = open_folder(folder, format_name=format_name, newest_version=newest_version)
    return dict(arrays), manifest


def open_folder(
    folder: Path, *, format_name: str, newest_version: int
) -> tuple[Arrays, dict[str, Any]]:
    """Read a folder's manifest and check its arrays, without holding them in memory.

    Raises:
        ArtifactError: there is no such folder.
        CorruptArtifactError: it is damaged, incomplete, or of another format.
        NewerArtifactError: a later version wrote it.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"no {format_name} folder at {folder}; make one with 'zerorouter calibrate', or leave "
            "--space and ZEROROUTER_SPACE unset to use the one that ships with the package"
        )
    manifest = _read_manifest(folder / MANIFEST, format_name)
    version = manifest.get("format_version")
    if not isinstance(version, int):
        raise CorruptArtifactError(f"{folder / MANIFEST} has no format_version; {_REMEDY}")
    if version > newest_version:
        raise NewerArtifactError(
            f"{folder} has format version {version}, this ZeroRouter reads up to "
            f"{newest_version}; upgrade with: pip install -U zerorouter"
        )
    try:
        with (folder / ARRAYS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            checked = os.fstat(file.fileno())
    except OSError as error:
        raise CorruptArtifactError(f"{folder / ARRAYS} cannot be read: {error}") from error
    if found != manifest.get("arrays_sha256"):
        raise CorruptArtifactError(
            f"{folder / ARRAYS} does not match the checksum in {MANIFEST}; {_REMEDY}"
        )
    from safetensors import SafetensorError

    try:
        arrays = Arrays(folder / ARRAYS)
        if not os.path.samestat(checked, (folder / ARRAYS).stat()):
            raise OSError("it was replaced meanwhile")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CorruptArtifactError(f"{folder / ARRAYS} cannot be parsed: {error}") from error
    return arrays, manifest


_REMEDY = "restore it from where it came, or make it anew with 'zerorouter calibrate'"


def _read_manifest(path: Path, format_name: str) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise CorruptArtifactError(f"{path} cannot be read: {error.strerror}; {_REMEDY}") from error
    except ValueError as error:
        raise CorruptArtifactError(f"{path} is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != format_name:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise CorruptArtifactError(f"{path} is of format {found!r}, {format_name!r} was wanted")
    return manifest


def _replaceable(folder: Path, format_name: str) -> bool:
    """Whether a save may take the place: an empty folder, or an artifact of the same format."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        _read_manifest(folder / MANIFEST, format_name)
    except CorruptArtifactError:
        return False
    return {entry.name for entry in folder.iterdir()} <= {ARRAYS, MANIFEST}


def _write(path: Path, payload: bytes) -> None:
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
