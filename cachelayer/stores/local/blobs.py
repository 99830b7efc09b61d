"""The blob files: ``blobs/ab/<64 hex>`` holds the bytes and nothing else. Only file operations live here.

A file is written under a temporary name in ``incoming/``, synced, and renamed into place; a collector renames it to
``trash/`` before it goes. Names there begin with the token of the writer at work (writers.py). Symbolic links are
never followed, anything that is not a plain file is as good as missing. A link or pipe is replaced; a folder, which may
hold somebody's files, is moved to ``blobs.aside/`` and never looked into.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cachelayer.core.entry import Take
from cachelayer.machine.files import make_folder, sync_folder
from cachelayer.machine.interrupts import came_from_a_handler

DIGEST = re.compile(r"[0-9a-f]{64}\Z")  # \Z: $ would admit a newline

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a planted FIFO would wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

LEFT_ALONE = 4 * 2**20
"""Bytes of a disk that no blob takes; of a small disk its twentieth."""

_OF_THE_MOMENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""They say nothing about the file. EIO may last; the next put then writes the blob again all the same."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a file takes."""

    size: int
    """Its bytes."""
    disk: int
    """Its whole blocks, in bytes."""
    shelf: int
    """The blocks of the folder that it lies in, in bytes."""


class Unfit(Exception):
    """What lies in a blob's place is not a plain file, or may not be read."""


class BlobFiles:
    """The files of one store. Every digest must have matched DIGEST before it becomes a path here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.block = 4096
        """Bytes of a block of the file system."""
        self.blobs = folder / "blobs"
        self.incoming = folder / "incoming"
        self.trash = folder / "trash"
        self._aside = folder / "blobs.aside"

    def create(self) -> None:
        """Make the folders that are missing, mode 0700. Raises OSError when one is there but not a folder."""
        for folder in (self.blobs, self.incoming, self.trash):
            make_folder(folder)
        self.block = min(max(os.statvfs(self.folder).f_frsize, 512), 2**20)

    def path(self, digest: str) -> Path:
        return self.blobs / digest[:2] / digest

    def read(self, digest: str) -> bytes | None:
        """The bytes of a blob, None when there is none. Not verified. Raises Unfit; OSError when the machine, not the
        blob, is at fault."""
        file = self._open(digest)
        if file is None:
            return None
        try:
            size = os.fstat(file).st_size
            # One read into one fresh buffer: page faults, not copies, are what a large blob costs (PERF-FACTS).
            data = os.read(file, size)
            while len(data) < size:  # a read ends at 2 GB, or where the file was cut short meanwhile
                more = os.read(file, size - len(data))
                if not more:
                    break
                data += more
            return data
        finally:
            os.close(file)

    def pour(self, digest: str, buffer: memoryview, take: Take) -> bool:
        """Hand a blob to ``take`` through a buffer (stores.base.Contents.pour). Else as read()."""
        file = self._open(digest)
        if file is None:
            return False
        try:
            while True:
                size = _fill(file, buffer)
                if (size and not take(buffer[:size])) or size < len(buffer):
                    return True
        finally:
            os.close(file)

    def _open(self, digest: str) -> int | None:
        try:
            with self._shelf(digest) as shelf:
                file = os.open(digest, _READ, dir_fd=shelf)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _OF_THE_MOMENT or came_from_a_handler(error):
                raise
            raise Unfit(error.strerror) from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise Unfit("not a plain file")
        return file

    def holds(self, digest: str, data: bytes) -> bool:
        """Whether a blob is there and whole. Compares the bytes: cheaper than any hash, and certain."""
        if self.size(digest) != len(data):
            return False
        try:
            return self.read(digest) == data
        except (Unfit, OSError):
            return False

    def size(self, digest: str) -> int | None:
        """Bytes of the file in a blob's place, None when there is no plain file."""
        extent = self.extent(digest)
        return None if extent is None else extent.size

    def extent(self, digest: str) -> Extent | None:
        """What the file in a blob's place takes, None when there is no plain file."""
        try:
            with self._shelf(digest) as shelf:
                status = os.stat(digest, dir_fd=shelf, follow_symlinks=False)
                folder = os.fstat(shelf)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Extent(status.st_size, blocks(status), blocks(folder))

    def taken(self, digest: str, data: bytes) -> Extent:
        """What a blob takes that was just written; what it should take, if it is gone again."""
        return self.extent(digest) or Extent(len(data), -(-len(data) // self.block) * self.block, self.block)

    def write(self, digest: str, data: bytes, name: str) -> None:
        """Put a blob in its place, replacing what is there; durable when it returns. Leaves nothing when it raises.

        name: of the temporary file.
        """
        temporary = self.incoming / name
        try:
            file = os.open(temporary, _CREATE, 0o600)
            try:
                os.fchmod(file, 0o600)  # whatever the umask
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                os.fsync(file)
            finally:
                os.close(file)
            with self._shelf(digest, make=True) as shelf:
                try:
                    os.replace(temporary, digest, dst_dir_fd=shelf)
                except IsADirectoryError:
                    self._move_aside(digest, shelf)
                    os.replace(temporary, digest, dst_dir_fd=shelf)
                os.fsync(shelf)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def missing(self, wanted: int) -> int:
        """Bytes that the disk lacks for ``wanted`` more: 0 when it has them. A little is left to others, the ledger
        first of all: what an answer cost must be written down also where it cannot be kept."""
        disk = os.statvfs(self.folder)
        left_alone = min(LEFT_ALONE, disk.f_blocks * disk.f_frsize // 20)
        return max(0, wanted + left_alone - disk.f_bavail * disk.f_frsize)

    def discard(self, digest: str, token: str) -> bool:
        """Rename a blob to the trash of a writer; False when there is none."""
        try:
            with self._shelf(digest) as shelf:
                if stat.S_ISDIR(os.stat(digest, dir_fd=shelf, follow_symlinks=False).st_mode):
                    self._move_aside(digest, shelf)
                    return False
                os.rename(digest, self._discarded(digest, token), src_dir_fd=shelf)
        except (FileNotFoundError, NotADirectoryError):  # a link in the place of the folder counts as nothing there
            return False
        return True

    def remove(self, digest: str) -> bool:
        """Unlink a blob; False when there is no plain file."""
        try:
            with self._shelf(digest) as shelf:
                if not stat.S_ISREG(os.stat(digest, dir_fd=shelf, follow_symlinks=False).st_mode):
                    return False
                os.unlink(digest, dir_fd=shelf)
        except OSError:
            return False
        return True

    def put_back(self, digest: str, token: str) -> None:
        """Undo discard(); what has come into its place meanwhile stays."""
        discarded = self._discarded(digest, token)
        with suppress(FileExistsError, FileNotFoundError, NotADirectoryError), self._shelf(digest, make=True) as shelf:
            os.link(discarded, digest, dst_dir_fd=shelf, follow_symlinks=False)
        self.destroy(digest, token)

    def destroy(self, digest: str, token: str) -> None:
        """Finish discard()."""
        self._remove(self._discarded(digest, token))

    def walk(self) -> Iterator[tuple[str, Extent]]:
        """(digest, what it takes) of every file that is in a blob's place; anything else in there is passed over."""
        for shelf, _ in self.shelves():
            for digest in _names(self.blobs / shelf):
                if DIGEST.match(digest) and digest.startswith(shelf):
                    extent = self.extent(digest)
                    if extent is not None:
                        yield digest, extent

    def shelves(self) -> Iterator[tuple[str, int]]:
        """(name, bytes on disk) of every folder of blobs."""
        for shelf in _names(self.blobs):
            if re.fullmatch(r"[0-9a-f]{2}", shelf):
                with suppress(FileNotFoundError):
                    status = os.lstat(self.blobs / shelf)
                    if stat.S_ISDIR(status.st_mode):
                        yield shelf, blocks(status)

    def unfinished(self) -> list[tuple[str, str]]:
        """(token, file name) of all temporary files."""
        return [(name.partition("-")[0], name) for name in _names(self.incoming)]

    def abandon(self, name: str) -> None:
        """Remove the temporary file of a dead writer."""
        self._remove(self.incoming / name)

    def discarded(self) -> list[tuple[str, str]]:
        """(token, digest) of all files in the trash."""
        pairs = [name.partition("-")[::2] for name in _names(self.trash)]
        return [(token, digest) for token, digest in pairs if DIGEST.match(digest)]

    def _discarded(self, digest: str, token: str) -> Path:
        return self.trash / f"{token}-{digest}"

    def _remove(self, path: Path) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):  # what unlinking a folder raises on Linux, on macOS
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
            self._move_aside(path)

    def _move_aside(self, path: str | Path, parent: int | None = None) -> None:
        # Not to the trash, from which a collector would delete what is not ours; not deleted, as it may be dear.
        make_folder(self._aside)
        number = 1
        while os.path.lexists(aside := self._aside / f"{os.path.basename(path)}-{number}"):
            number += 1
        os.rename(path, aside, src_dir_fd=parent)

    @contextmanager
    def _shelf(self, digest: str, *, make: bool = False) -> Iterator[int]:
        """The folder of a digest, opened so that no link in its place is followed."""
        path = self.blobs / digest[:2]
        try:
            shelf = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            if not make:
                raise
            make_folder(path)
            sync_folder(self.blobs)
            shelf = os.open(path, _DIRECTORY)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise NotADirectoryError(errno.ENOTDIR, "a link", str(path)) from None  # as Linux itself calls it
        try:
            yield shelf
        finally:
            os.close(shelf)


def _fill(file: int, buffer: memoryview) -> int:
    size = os.readv(file, [buffer])
    while 0 < size < len(buffer):  # a read may end early, and only one of nothing says that the file does
        more = os.readv(file, [buffer[size:]])
        if not more:
            break
        size += more
    return size


def blocks(status: os.stat_result) -> int:
    """Bytes that a file or folder takes on disk."""
    return status.st_blocks * 512  # 512 whatever the file system's own blocks


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
