"""A local folder, behind the few verbs that an object-store prefix can answer too."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

import zarr
import zarr.storage

from storage.address import is_address, refuse_foreign

PARTIAL = ".partial"
"""Suffix of what is being written: never a finished file; ``Folder.clear_partial`` and ``gc`` remove what the dead left."""


PIECE_BYTES = 8_000_000
"""Of a file that is read piece by piece."""

MOST_SYNCED = 64
"""Above so many files one ``sync`` of everything is faster than one ``fsync`` each."""


NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EINVAL})
"""What a disk without links of a kind answers to one: SMB, some FUSE and FAT."""

CLAIM_S = 20.0
"""A claim of a name that is not given back for so long is of a dead writer."""

LONGEST_NAME = 255
"""Bytes of the small file that takes a symbolic link's place."""


class Folder:
    """A local folder addressed by keys (``/``-separated paths below it).

    Every verb that acknowledges has reached the disk: file and folder are synced before it returns, since a power cut
    otherwise leaves files of zero bytes (measured: 7 of 7 stores unreadable without, 0 of 4 with).
    ``Bucket`` answers to the same verbs; who may be given either asks ``folder_at``.
    """

    def __init__(self, root: str | Path) -> None:
        if is_address(root):
            raise ValueError(f"{root}: expected a local folder, found an address: storage.folder_at takes both")
        refuse_foreign(root)
        self.root = Path(root).absolute()

    def __str__(self) -> str:
        return str(self.root)

    def path(self, key: str) -> Path:
        """Return the local path of a key."""
        return self.root / key if key else self.root

    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``; ``FileNotFoundError`` if there are none, ``OSError`` if it is no regular file."""
        with _opened(self.path(key)) as file:
            return file.read()

    @contextlib.contextmanager
    def reader(self, key: str) -> Iterator[Callable[[int, int], bytes]]:
        """Yield ``read(start, n_bytes)`` of the file under ``key``; a negative ``start`` counts from its end."""
        with _opened(self.path(key)) as file:
            size = os.fstat(file.fileno()).st_size
            yield lambda start, n_bytes: os.pread(file.fileno(), n_bytes, max(0, start + size) if start < 0 else start)

    def exists(self, key: str) -> bool:
        """Tell whether a file lies under ``key``."""
        return self.path(key).is_file()

    def put(self, key: str, content: bytes) -> None:
        """Write ``content`` under ``key``, replacing what is there: all of it or nothing."""
        self._write_aside(key, content, os.replace)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write ``content`` under ``key`` unless something is there; tell whether this call wrote it."""
        if self.exists(key):
            return False
        try:
            self._write_aside(key, content, _move_if_absent)
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, *content: bytes) -> None:
        """Write ``content``, one part after another, under ``key``, all of it or nothing, without waiting for the disk.

        For what can be made again and is checked when it is found: a power cut may leave the file empty.
        """
        target = f"{self.root}/{key}"
        aside = f"{target}.{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}"
        try:
            try:
                file = io.FileIO(aside, "xb")
            except FileNotFoundError:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                file = io.FileIO(aside, "xb")
            with _named(Path(target)), file:
                for part in content:
                    _write_whole(file, part)
            os.replace(aside, target)  # noqa: PTH105 - paths of pathlib take longer than the file
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)  # noqa: PTH108
            raise

    @contextlib.contextmanager
    def stream(self, key: str) -> Iterator[BinaryIO]:
        """Yield a file to write into, which lies under ``key`` when all went well: all of it or nothing, as ``replace``."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            with _named(target), aside.open("wb") as file:
                yield file
            aside.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                aside.unlink()

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield the bytes under ``key`` in pieces: what is larger than memory can be hashed so."""
        with _opened(self.path(key)) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def link(self, key: str, other: str) -> bool:
        """Let the bytes under ``key`` appear under ``other`` too: as a hard link where the disk has them, else as a copy.

        Returns
        -------
        bool
            Whether these are the very bytes that are on the disk already; a copy is still to be brought there.

        """
        if key == other:
            return True
        target = self.path(other)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            os.link(self.path(key), aside)
        except OSError:
            self.replace(other, self.read(key))
            return False
        aside.replace(target)
        return True

    def point(self, key: str, name: str) -> None:
        """Let ``key`` lead to its neighbour ``name``: a symbolic link, or where a disk has none a small file with the name."""
        target = self.path(key)
        aside = target.with_name(f"{target.name}.{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            aside.symlink_to(name, target_is_directory=True)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self.put(key, name.encode())
            return
        aside.replace(target)
        _sync_folder(target.parent)

    def pointed(self, key: str) -> str:
        """Return the name that ``point`` gave ``key``; empty if it has none."""
        path = self.path(key)
        try:
            if path.is_symlink():
                return path.readlink().name
            with _opened(path) as file:
                return Path(file.read(LONGEST_NAME).decode()).name
        except (OSError, UnicodeDecodeError):
            return ""

    def _write_aside(self, key: str, content: bytes, move: Callable[[Path, Path], None]) -> None:
        target = self.path(key)
        self._make_folder(target.parent)
        aside = target.with_name(f"{target.name}.{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            with _named(target), aside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            move(aside, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                aside.unlink()
        _sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_folder(path.parent)

    def write(self, key: str, content: bytes) -> None:
        """Write a file inside something unfinished, without acknowledging it: ``sync`` does that for many at once."""
        self.path(key).parent.mkdir(parents=True, exist_ok=True)
        with _named(self.path(key)):
            self.path(key).write_bytes(content)

    def make_folder(self, key: str) -> None:
        """Make a folder, and the folders it lies in, durably; nothing happens if it is there."""
        self._make_folder(self.path(key))

    def sync(self, keys: Iterable[str], below: str, *, linked: Iterable[str] = ()) -> None:
        """Bring files, and the folders between them and ``below`` (itself too), onto the disk.

        Of ``linked``, whose bytes are there already, the folders alone: each call of the disk takes milliseconds.
        """
        top = self.path(below)
        folders: set[Path] = {top}

        def remember(folder: Path) -> None:
            while folder not in folders:
                folders.add(folder)
                folder = folder.parent

        for key in linked:
            remember(self.path(key).parent)
        for key in keys:
            path = self.path(key)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                with _named(path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            remember(path.parent)
        for folder in sorted(folders, reverse=True):
            _sync_folder(folder)

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size of every file below ``prefix``, in order of keys; nothing if there is no such folder.

        A folder that cannot be listed is an error, not one without files: what is published lists all that it holds.
        """
        top = self.path(prefix)
        for folder, subfolders, names in os.walk(top, onerror=_unless_gone):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                yield path.relative_to(self.root).as_posix(), path.lstat().st_size

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly below ``prefix``, sorted."""
        try:
            return sorted(path.name for path in self.path(prefix).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def version(self, key: str) -> str:
        """Return what changes when the file does; empty if there is none."""
        try:
            stat = self.path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return f"{stat.st_ino}-{stat.st_mtime_ns}"

    def store_place(self, building: str, published: str) -> str:  # noqa: ARG002
        """Return where a store is built: in ``building``, from where ``publish`` moves it."""
        return building

    def own_place(self, key: str) -> str:
        """Return a key beside ``key`` that no other writer uses, for what ``publish`` moves."""
        return f"{key.removesuffix('.zarr')}.{os.getpid()}-{os.urandom(4).hex()}.zarr"

    def delete(self, key: str) -> None:
        """Remove a file or everything below a prefix; nothing happens if there is none."""
        path = self.path(key)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def clear_partial(self, pid: int) -> None:
        """Remove what a process of this machine that is gone was writing at the root, or one folder below it, when it ended."""
        for folder in ("", *self.children()):
            for name in self.children(folder):
                if name.endswith(PARTIAL) and f".{pid}-" in name:
                    self.delete(f"{folder}/{name}" if folder else name)

    def exists_below(self, key: str) -> bool:
        """Tell whether there is anything at ``key``: a file, or something below it."""
        return self.exists(key) or bool(self.children(key))

    def put_aside(self, key: str, other: str) -> None:
        """Move a file or all below a prefix to another place, replacing what lies there; nothing happens if there is none."""
        source, target = self.path(key), self.path(other)
        if not source.exists() and not source.is_symlink():
            return
        self._make_folder(target.parent)
        self.delete(other)
        source.rename(target)
        _sync_folder(source.parent)
        _sync_folder(target.parent)

    def publish(self, building: str, published: str) -> None:
        """Make everything below ``building`` appear below ``published`` at once.

        A second writer of the same store arrives at the same bytes: if the place is taken, what was built is dropped.
        """
        source, target = self.path(building), self.path(published)
        self._make_folder(target.parent)
        try:
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not target.is_dir():
                raise
            self.delete(building)
        _sync_folder(target.parent)

    def settle(self, keys: Iterable[str], below: str) -> None:
        """Bring many finished files onto the disk: one by one if few, else by one order to the whole machine."""
        keys = list(keys)
        if len(keys) > MOST_SYNCED:
            os.sync()
        else:
            self.sync(keys, below)

    def zarr_store(self, prefix: str = "", *, read_only: bool = False) -> Any:
        """Return the Zarr store below ``prefix``."""
        return zarr.storage.LocalStore(self.path(prefix), read_only=read_only)


def _write_whole(file: io.FileIO, content: bytes) -> None:
    """Write all of it, however little the system takes at once."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def _opened(path: Path) -> io.FileIO:
    """Open a file for reading; a pipe or a device in a file's place is refused, where reading it would wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not S_ISREG(mode):
        os.close(descriptor)
        code = errno.EISDIR if S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "expected a regular file, found something else", str(path))
    return io.FileIO(descriptor)


def _move_if_absent(aside: Path, target: Path) -> None:
    """Move a file to a name that nobody has; ``FileExistsError`` where somebody does.

    By a hard link, which the disk gives to one only. Where it has none, by a claim: a folder, which it gives to one only too.
    """
    try:
        os.link(aside, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    else:
        return
    claim = target.with_name(f"{target.name}.claim{PARTIAL}")
    started = time.monotonic()
    while True:
        try:
            claim.mkdir()
            break
        except FileExistsError:
            if time.monotonic() - started > CLAIM_S:
                with contextlib.suppress(OSError):
                    claim.rmdir()
            time.sleep(0.05)
    try:
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        aside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the disk say which file it met: writing and syncing know only a number."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
