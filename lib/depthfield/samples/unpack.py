"""Unpack an untrusted archive: into its own folder or not at all, and only plain files and folders."""

import contextlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from depthfield import files, tool
from depthfield.samples.catalogue import in_words

# Errors of the standard library for damaged data; its decompressors also raise OSError without a number.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError)
BLOCK = 4096  # maximum bytes that a file takes on disk beyond its size


class BadArchiveError(tool.Failure):
    """The archive is damaged, not an archive, or has members outside its folder."""


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    kind: str  # "file", "folder", or another kind in words
    size: int  # bytes, unpacked
    extract: Callable[[Path], object]  # writes it into the given folder


def unpack(archive: Path, target: Path, workshop: Path) -> None:
    """Unpack a tar (compressed or not) or zip file into the folder `target`, replacing its content.

    All members are checked before the first is written. Works in `workshop`, a folder on the same disk. Raises
    BadArchiveError, naming the member, tool.Failure if the disk has no room, or OSError; `target` is then unchanged.
    """
    try:
        with _members(archive) as members:
            for member in members:
                _judge(member)
            check_room(archive.parent, sum(member.size + BLOCK for member in members), "to unpack it")
            with whole_folder(target, workshop) as folder:
                for member in tool.progress(members, len(members), "files unpacked"):
                    member.extract(folder)
    except DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise BadArchiveError(f"damaged, or not an archive ({reason})") from None
    except OSError as error:
        if error.errno is None:
            raise BadArchiveError(f"damaged, or not an archive ({error})") from None
        raise


@contextlib.contextmanager
def whole_folder(target: Path, workshop: Path) -> Iterator[Path]:
    """Yield an empty folder in `workshop`; it replaces `target` when the block succeeds."""
    new, old = workshop / "new", workshop / "old"
    tidy(target, workshop)
    new.mkdir(parents=True)
    try:
        yield new
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        tidy(target, workshop)


def tidy(target: Path, workshop: Path) -> None:
    """Remove what `whole_folder` left behind, after restoring `target` if it was being replaced."""
    files.bring_back(workshop / "old", target)
    shutil.rmtree(workshop, ignore_errors=True)


def check_room(folder: Path, needed: int, purpose: str) -> None:
    """Raise tool.Failure, with both sizes, if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"{in_words(needed)} needed {purpose}, {in_words(free)} free"
        raise tool.Failure(f"{folder}: not enough disk space: {sizes}")


def _judge(member: Member) -> None:
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        raise BadArchiveError(f"refused, nothing unpacked: its member {member.name!r} is outside its folder")
    if member.kind not in ("file", "folder"):
        raise BadArchiveError(f"refused, nothing unpacked: its member {member.name!r} is a {member.kind}")


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    with archive.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    if zipped:
        with zipfile.ZipFile(archive) as opened:
            yield [_of_zip(opened, entry) for entry in opened.infolist()]
        return
    with tarfile.open(archive, tarinfo=_StrictEntry) as opened:
        members = [_of_tar(opened, entry) for entry in opened.getmembers()]
        while opened.fileobj.read(1 << 20):  # to the end, to verify the checksum of the compression
            pass
        yield members


class _StrictEntry(tarfile.TarInfo):
    """A tar entry for which damage is an error: tarfile takes a bad header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from None


def _of_tar(opened: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    kinds = {
        tarfile.DIRTYPE: "folder",
        tarfile.SYMTYPE: "symbolic link",
        tarfile.LNKTYPE: "hard link",
        tarfile.CHRTYPE: "device",
        tarfile.BLKTYPE: "device",
        tarfile.FIFOTYPE: "named pipe",
    }
    kind = "file" if entry.isreg() else kinds.get(entry.type, f"member of unknown type {entry.type!r}")
    return Member(entry.name, kind, entry.size, partial(opened.extract, entry, filter="data"))


def _of_zip(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link"}
    mode = stat.S_IFMT(entry.external_attr >> 16)
    kind = "folder" if entry.is_dir() else kinds.get(mode, "special file")
    return Member(entry.filename, kind, entry.file_size, partial(opened.extract, entry))
