"""Where machine code of kernels is kept: beside the code, for everybody who may read it, else in a folder of the user's own.

numba takes one folder for a function, and only one that it may write to: who runs a tool that somebody else installed would
compile all of it once more. Here code is looked for in each folder that can be read, and kept in the first that can be written:

1. ``__pycache__`` beside the module, where ``make install``, the image and ``ecgbatch warm`` put it; where ``NUMBA_CACHE_DIR``
   is set, it takes its place;
2. the user's cache folder (``XDG_CACHE_HOME`` or ``~/.cache``), where the user has one;
3. a folder of the user's own in ``TMPDIR``.

Machine code is run as it is read, so a folder in a place that others can write to counts only if it is this user's own and
closed to them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator, NullCache


class BesideTheCode(InTreeCacheLocator):  # type: ignore[misc]
    """The module's ``__pycache__``, whether or not it can be written to: to read is enough."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)
        self._files = (file, *function.__globals__.get("EMITTED_BY", ()))

    def get_source_stamp(self) -> tuple[str, ...]:
        """Return the digests of what the code is made from: the module's file, and those that it names in ``EMITTED_BY``."""
        return tuple(_digest(file, Path(file).stat().st_mtime_ns) for file in self._files)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> BesideTheCode | None:
        """Return where a function's code lies; None where its file is none, as in a notebook."""
        return cls(function, file) if Path(file).exists() else None


class Elsewhere(BesideTheCode):
    """A folder that keeps the code of modules of any place; ``folder`` is set for each of them."""

    folder = Path()

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)
        self._cache_path = str(self.folder / self.get_suitable_cache_subpath(file))


@cache
def _digest(file: str, _changed: int) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _elsewhere(folder: Path) -> type[Elsewhere]:
    return type("Elsewhere", (Elsewhere,), {"folder": folder})


def _cache_of_user() -> list[Path]:
    """Return the user's cache folder, if the user has one: an account of a service may have no home."""
    try:
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())]
    except RuntimeError:
        return []


SHARED = _elsewhere(Path(config.CACHE_DIR)) if config.CACHE_DIR else BesideTheCode
OWN_FOLDERS = [*(cache / "ecgbatch" for cache in _cache_of_user()), Path(tempfile.gettempdir()) / f"ecgbatch-{os.getuid()}"]


def _cache(locator: type[BesideTheCode], function: Callable[..., Any]) -> FunctionCache:
    """Return numba's cache of one function, in one kind of folder."""
    implementation = type(locator.__name__, (CompileResultCacheImpl,), {"_locator_classes": [locator]})
    return type(f"{locator.__name__}Cache", (FunctionCache,), {"_impl_class": implementation})(function)


UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)
"""Closed to this user, or cut short: as if it were not there."""


class KeptCode(NullCache):  # type: ignore[misc]
    """What numba asks for the machine code of one function: read where it lies, kept where it may be.

    Parameters
    ----------
    function
        The Python function that is compiled.

    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._shared = _cache(SHARED, function)
        self._own = [(folder, _cache(_elsewhere(folder), function)) for folder in OWN_FOLDERS]

    @property
    def cache_path(self) -> str:
        """The folder that is everybody's."""
        return str(self._shared.cache_path)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return what was compiled for a signature, from the first folder that has it; None where none does."""
        for folder in self._readable():
            with suppress(*UNREADABLE):
                found = folder.load_overload(signature, target)
                if found is not None:
                    return found
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep what was compiled in the first folder that takes it; where none does, it is said, and serves this process."""
        if _keeps(self._shared, signature, compiled):
            return
        for path, folder in self._own:
            with suppress(OSError):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(path) and _keeps(folder, signature, compiled):
                _say_once(f"compiled code is kept in {path}: {Path(self.cache_path).parent} cannot be written to.")
                return
        tried = " nor in ".join(map(str, OWN_FOLDERS))
        _say_once(
            f"compiled code can be kept nowhere: neither beside the code nor in {tried} can be written. "
            "Every run compiles it anew; NUMBA_CACHE_DIR names another folder."
        )

    def has_code(self, target: Any) -> bool:
        """Return whether any folder has code of the function's file as it is, for this processor."""
        processor = target.codegen().magic_tuple()
        for folder in self._readable():
            with suppress(*UNREADABLE):
                # numba 0.68 names no public way to ask. It compares the file's content, so times say nothing after a checkout.
                if any(key[1] == processor for key in folder._cache_file._load_index()):
                    return True
        return False

    def _readable(self) -> list[FunctionCache]:
        return [self._shared, *(folder for path, folder in self._own if _is_ours(path))]


def _keeps(folder: FunctionCache, signature: Any, compiled: Any) -> bool:
    """Return whether a folder took what was compiled; what it has is thrown away where that is cut short."""
    try:
        try:
            folder.save_overload(signature, compiled)
        except (EOFError, pickle.UnpicklingError):
            folder.flush()
            folder.save_overload(signature, compiled)
    except OSError:
        return False
    return True


def kept_in() -> str:
    """Return, for a person, where machine code is kept: what is made now, or all of it where that was read and none was made."""
    shared = Path(config.CACHE_DIR) if config.CACHE_DIR else Path(__file__).parent
    name = str(config.CACHE_DIR or "beside the code")
    if _takes_a_file(shared):
        return name
    own = next((str(folder) for folder in OWN_FOLDERS if _is_ours(folder)), "")
    return own or (f"{name}, made by another user" if next(shared.rglob("*.nbi"), None) else "nowhere")


def open_to_readers() -> None:
    """Let who may read the code read its machine code too, whatever the umask was when that was made."""
    for folder in Path(__file__).parent.rglob("__pycache__"):
        mode = folder.parent.joinpath("__init__.py").stat().st_mode & 0o666
        for file in (*folder.glob("*.nbi"), *folder.glob("*.nbc")):
            with suppress(OSError):  # another user's, who has said what he wants
                file.chmod(mode)


def _takes_a_file(folder: Path) -> bool:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is there, is this user's, and nobody else may write to it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


@cache
def _say_once(what: str) -> None:
    print(f"ecgbatch: {what}", file=sys.stderr, flush=True)
