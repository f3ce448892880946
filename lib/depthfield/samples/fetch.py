"""Fetch a dataset of the catalogue: download, verify and unpack, or render it; current files are kept.

DATA_DIR/NAME/
  raw/             the input of readers: files as published, each archive unpacked in a folder with its name
  downloads/       archives; FILE.part, an interrupted download; FILE.bad, a file that did not verify
  SHA256SUMS       checksums, published or from the first download; `sha256sum -c` reads it
  .verified.json   sizes and times of verified files, so that gigabytes are not hashed on each call
"""

import contextlib
import email.utils
import functools
import io
import itertools
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3

from depthfield import files, tool
from depthfield.samples.catalogue import Dataset, File, in_words
from depthfield.samples.unpack import BadArchiveError, check_room, tidy, unpack, whole_folder

CONNECT_SECONDS, READ_SECONDS = 20, 60
LONGEST_PAUSE = 60  # seconds between two tries
LONGEST_RETRY_AFTER = 300  # seconds that a server may ask us to wait; the user decides about more
CHUNK = 1 << 18
RENDERED = 11  # bytes per pixel before compression: three of colour, four of depth, four as a camera measures
UNPACKED = 1.5  # bytes on disk per byte of archive: photos hardly compress, laser grids to a third
NOTE = "rooms.json"  # in a folder of rendered rooms: their settings, and a listing of the files
PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<!--|<script)", re.IGNORECASE)


# --- one dataset --------------------------------------------------------------------------------------------------


class Home(NamedTuple):
    """The folder of one dataset and what is known about its files; `place` is a path relative to it."""

    folder: Path
    sums: dict[str, str]  # place: sha256
    files: dict[str, list]  # place: [bytes, mtime in ns, sha256] when it was last hashed
    unpacked: dict[str, dict]  # place of a folder: {"sha256": of its archive, "files": {relative path: [bytes, mtime]}}


def fetch(dataset: Dataset, data: Path, mirror: str | None = None, force: bool = False, retries: int = 5) -> bool:
    """Complete `data`/NAME/raw; returns whether it is complete. Names each file that fails on stderr.

    Files that exist and verify are kept, unless `force`. `mirror` is an address or a folder with the files.
    Raises tool.Failure or OSError if nothing can be started.
    """
    with _alone(data / dataset.name):
        home = _open_home(data / dataset.name)
        for file in dataset.files:
            if file.unpack:
                tidy(home.folder / "raw" / file.folder, _workshop(home, file))
        missing = [file for file in dataset.files if force or not _there(home, file)]
        if home.files:
            _remember(home)
        for file in dataset.files if not force else ():
            tool.detail(f"{dataset.name}: {file.name}: {'missing' if file in missing else 'kept'}")
        if not force and all(file.optional for file in missing):
            return True
        cite = f"; please cite {dataset.citation}" if dataset.citation else ""
        tool.inform(f"{dataset.name}: {dataset.licence}{cite}")
        _check_room_for(home, dataset, missing, force)
        failed = False
        for file in missing:
            try:
                _bring(home, file, _addresses(dataset, file, mirror), force, retries)
            except (tool.Failure, OSError) as error:
                reason = tool.reason(error) if isinstance(error, OSError) else error
                reason = f"{reason} (the dataset is complete without it)" if file.optional else reason
                tool.say(f"{dataset.name}: {file.name}: {reason}")
                failed |= not file.optional
        return not failed


def render(
    home: Path,
    train: int,
    test: int,
    size: tuple[int, int],
    seed: int,
    jobs: int | None = None,
    force: bool = False,
) -> None:
    """Render `home`/raw with rooms.write and these settings; keeps it if it was rendered with the same settings.

    Raises tool.Failure if it contains anything else, unless `force`; tool.Failure, tool.UsageError or OSError if it
    cannot be rendered. An existing folder is then unchanged.
    """
    raw, workshop = home / "raw", home / ".rendering"
    settings = {"train": train, "test": test, "size": list(size), "seed": seed}
    with _alone(home):
        tidy(raw, workshop)
        if not force and _rendered(raw, settings):
            tool.detail(f"{raw}: kept")
            return
        from depthfield.samples import rooms

        check_room(home, (train + test) * size[0] * size[1] * RENDERED, f"to render {train + test} photos")
        with whole_folder(raw, workshop) as folder:
            rooms.write(folder, train=train, test=test, size=size, seed=seed, jobs=jobs)
            files.write_json(folder / NOTE, {"settings": settings, "files": _listing(folder)})


def _rendered(raw: Path, settings: dict) -> bool:
    """Whether `raw` was rendered with these settings; raises tool.Failure if it contains anything else."""
    if not raw.exists() or not any(raw.iterdir()):
        return False
    note = _read_json(raw / NOTE)
    way_out = "; use --as NAME for another folder, or --force (make: FORCE=1) to replace this one"
    if not note:
        raise tool.Failure(f"{raw}: exists, but was not rendered by {tool.name()}{way_out}")
    if note["settings"] != settings:
        raise tool.Failure(f"{raw}: contains rooms of {_options(note['settings'])}, not {_options(settings)}{way_out}")
    changed = _changed(raw, note["files"])
    if changed is not None:
        raise tool.Failure(
            f"{raw / changed}: changed or missing since it was rendered; --force (make: FORCE=1) renders {raw} again"
        )
    return True


def _options(settings: dict) -> str:
    size = "x".join(map(str, settings["size"]))
    return f"--count {settings['train']},{settings['test']} --size {size} --seed {settings['seed']}"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock `folder` against other fetch-datasets; says so if it has to wait for one."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.lock(folder / ".lock", wait=False))
        except BlockingIOError:
            tool.inform(f"{folder}: waiting for another {tool.name()} that uses it")
            held.enter_context(files.lock(folder / ".lock"))
        yield


def _open_home(folder: Path) -> Home:
    for name in ("raw", "downloads"):
        (folder / name).mkdir(exist_ok=True)
    sums = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
            if match := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line):
                sums[match[2]] = match[1]
    known = _read_json(folder / ".verified.json")
    return Home(folder, sums, known.get("files", {}), known.get("unpacked", {}))


def _remember(home: Home) -> None:
    sums = "".join(f"{known}  {place}\n" for place, known in sorted(home.sums.items()))
    verified = json.dumps({"files": home.files, "unpacked": home.unpacked}) + "\n"
    for name, text in (("SHA256SUMS", sums), (".verified.json", verified)):
        path = home.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)


def _place(file: File) -> str:
    return f"downloads/{file.name}" if file.unpack else f"raw/{file.name}"


def _workshop(home: Home, file: File) -> Path:
    """Return where an archive is unpacked before its folder is moved into place; it may hold the only copy."""
    return home.folder / f".unpacking-{file.folder}"


def _there(home: Home, file: File) -> bool:
    """Whether `file` is in raw/ for readers, unchanged since it was verified."""
    if not file.unpack:
        return _verifies(home, file)
    unpacked = home.unpacked.get(f"raw/{file.folder}")
    wanted = file.sha256 or home.sums.get(_place(file))
    if unpacked is None or unpacked["sha256"] != wanted:
        return False
    folder = home.folder / "raw" / file.folder
    changed = _changed(folder, unpacked["files"])
    if changed is not None:
        tool.say(f"{folder / changed}: changed or missing since it was unpacked; unpacking {file.name} again")
    return changed is None


def _verifies(home: Home, file: File) -> bool:
    """Whether the file exists with the right size and checksum; a wrong file is set aside.

    A file that the user put there, without a known checksum, is accepted and its checksum recorded.
    """
    place = _place(file)
    path = home.folder / place
    if not path.exists():
        return False
    wanted = file.sha256 or home.sums.get(place)
    found = _sum(home, place)
    wrong = _wrong(path, file, wanted, found)
    if wrong:
        aside = _set_aside(home, path)
        tool.say(f"{path}: {wrong}; kept as {aside}, fetching it again")
        return False
    if wanted is None and not file.unpack:
        tool.say(f"{path}: exists already; its sha256 is now recorded in {home.folder / 'SHA256SUMS'}")
    if not file.unpack:
        home.sums[place] = found
    return True


def _sum(home: Home, place: str) -> str:
    """Return the SHA-256 of a file; hashes it only if its size or time has changed since."""
    path = home.folder / place
    known = home.files.get(place)
    stamp = _stamp(path)
    if known is None or known[:2] != stamp:
        known = home.files[place] = [*stamp, _hash(path)]
    return known[2]


def _hash(path: Path) -> str:
    with tool.Meter("", path.stat().st_size, words=in_words, what=f"{path.name}: checking its sha256,") as meter:
        return files.sha256(path, meter.advance)


def _stamp(path: Path) -> list[int]:
    known = path.stat()
    return [known.st_size, known.st_mtime_ns]


def _listing(folder: Path) -> dict[str, list[int]]:
    """Return the stamp of each file in a folder tree, by relative path."""
    return {str(path.relative_to(folder)): _stamp(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _changed(folder: Path, stamps: dict[str, list[int]]) -> str | None:
    """Return the first file of a `_listing` that has changed; additional files are ignored."""
    now = _listing(folder)
    return next((path for path, stamp in stamps.items() if now.get(path) != stamp), None)


def _read_json(path: Path) -> dict:
    """Read one of our JSON files; a missing or unreadable one is empty, so that everything is checked again."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _wrong(path: Path, file: File, wanted: str | None, found: str) -> str | None:
    """Say what is wrong with a file that should be `file`; None if nothing is."""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size} bytes, but the catalogue says {file.size}"
    if wanted not in (None, found):
        known = "the catalogue says" if file.sha256 else "at the first download it was"
        return f"its sha256 is {found}, but {known} {wanted}"
    return None


def _set_aside(home: Home, path: Path) -> Path:
    aside = home.folder / "downloads" / f"{path.name.removesuffix('.part')}.bad"
    return path.replace(aside)


def _check_room_for(home: Home, dataset: Dataset, missing: list[File], force: bool) -> None:
    """Raise tool.Failure if the disk has no room for missing files, as far as the catalogue knows their sizes."""
    if dataset.size is None:
        return
    come = 0
    for file in dataset.files if not force else ():
        for path in (home.folder / _place(file), _part(home, file)):
            with contextlib.suppress(FileNotFoundError):
                come += path.stat().st_size
    archives = [file for file in dataset.files if file.unpack]
    packed = dataset.size * sum(file.unpack for file in missing) / max(1, len(archives))
    to_fetch = max(0, dataset.size - come)
    purpose = f"for {dataset.name} ({in_words(to_fetch)} to fetch, about {in_words(packed * UNPACKED)} unpacked)"
    check_room(home.folder, int(to_fetch + packed * UNPACKED), purpose)


def _bring(home: Home, file: File, addresses: list[str], force: bool, retries: int) -> None:
    """Download, verify, unpack and record one file. Raises tool.Failure or OSError; a bad file is never used."""
    place = _place(file)
    path, part = home.folder / place, _part(home, file)
    wanted = file.sha256 or home.sums.get(place)
    if force or not _verifies(home, file):
        if force:
            part.unlink(missing_ok=True)
        download(addresses, part, file.size, retries)
        found = _hash(part)
        wrong = _wrong(part, file, wanted, found)
        if wrong:
            aside = _set_aside(home, part)
            advice = f"; if its authors have replaced it, remove its line from {home.folder / 'SHA256SUMS'}"
            raise tool.Failure(f"{wrong}; kept as {aside}, not used" + ("" if file.sha256 else advice))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
        home.files[place] = [*_stamp(path), found]
    if file.unpack:
        folder = home.folder / "raw" / file.folder
        try:
            unpack(path, folder, _workshop(home, file))
        except BadArchiveError as bad:
            raise tool.Failure(f"{bad}; kept as {_set_aside(home, path)}") from None
        tool.detail(f"{folder}: unpacked")
        home.unpacked[f"raw/{file.folder}"] = {"sha256": home.files[place][2], "files": _listing(folder)}
    tool.detail(f"{path}: {in_words(path.stat().st_size)}, sha256 {home.files[place][2]}")
    home.sums[place] = home.files[place][2]  # only now: the checksum is permanent, so it must belong to a usable file
    _remember(home)


# --- one file -----------------------------------------------------------------------------------------------------


class PassingError(Exception):
    """A temporary error: a lost connection, a busy server; `pause` is the seconds that it asked us to wait."""

    def __init__(self, message: str, pause: float | None = None):
        super().__init__(message)
        self.pause = pause


class StaleError(PassingError):
    """The partial download does not match the file at the address any more."""


class AbsentError(tool.Failure):
    """The file is not at this address."""


class Source(NamedTuple):
    """An opened remote file."""

    start: int  # the byte at which `read` starts
    total: int | None  # bytes of the whole file, if known
    version: str | None  # changes when the file does
    read: Callable[[], bytes]  # returns the next bytes, empty at the end; raises PassingError


def _part(home: Home, file: File) -> Path:
    return home.folder / "downloads" / f"{file.name}.part"


def _addresses(dataset: Dataset, file: File, mirror: str | None) -> list[str]:
    """Return the addresses of a file, in the order to try."""
    if mirror is None:
        return [file.address]
    base = mirror.rstrip("/")
    if "://" in base:
        return [f"{base}/{quote(dataset.name)}/{quote(file.name)}", f"{base}/{quote(file.name)}"]
    return [f"{base}/{dataset.name}/{file.name}", f"{base}/{file.name}"]


def download(addresses: list[str], part: Path, size: int | None, retries: int) -> None:
    """Download the file from the first of `addresses` that has it to `part`, continuing an interrupted download.

    `size` is its bytes if known. Retries up to `retries` times in a row, with growing pauses. Raises tool.Failure or
    OSError; `part` then has the bytes so far.
    """
    absent = []
    for address in addresses:
        try:
            return _persist(address, part, size, retries)
        except AbsentError as failure:
            absent.append(str(failure))
    raise AbsentError("; ".join(absent) + ("; try --mirror" if len(addresses) == 1 else ""))


def _persist(address: str, part: Path, size: int | None, retries: int) -> None:
    tries, furthest = 0, _length(part)
    while True:
        try:
            return _go_on(address, part, size)
        except PassingError as passing:
            come = _length(part)
            tries = 1 if come > furthest else tries + 1
            furthest = max(furthest, come)
            if tries > retries:
                kept = f"; {in_words(come)} kept" if come else "; if the host is gone, try --mirror"
                often = f", {tries} times in a row" if tries > 1 else ""
                raise tool.Failure(f"{address}: {passing}{often}{kept}") from None
            pause = passing.pause
            if pause is None:
                pause = min(LONGEST_PAUSE, 2 ** (tries - 1)) * random.uniform(0.5, 1)
            tool.inform(f"{address}: {passing}; retrying in {pause:.1f} s ({tries} of {retries})")
            time.sleep(pause)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _go_on(address: str, part: Path, size: int | None) -> None:
    """Download over one connection. Raises PassingError if another may bring more, else tool.Failure or OSError."""
    note = part.with_name(part.name + ".json")
    part_note = _read_json(note)
    come = _length(part) if part_note.get("address") == address else 0
    try:
        with _open(address, come, part_note) as source:
            total = size if source.total is None else source.total
            first = source.read()
            if source.start == 0 and PAGE.match(first):
                raise tool.Failure(f"{address}: sent a web page, not the file; if the host has moved, try --mirror")
            if size not in (None, total):
                raise tool.Failure(f"{address}: has {total} bytes, but the catalogue says {size}: not the same file")
            if total is not None:
                check_room(part.parent, total - source.start, f"for the rest of {address}")
            if source.start == 0:
                if lost := _length(part):
                    tool.say(f"{address}: cannot continue after {in_words(lost)}; starting from the beginning")
                part.write_bytes(b"")
            files.write_json(note, {"address": address, "version": source.version, "total": source.total})
            meter = tool.Meter("", total, source.start, in_words, f"{part.stem}:")
            with part.open("ab", buffering=0) as file, meter:
                for chunk in itertools.chain([first], iter(source.read, b"")):
                    _write(file, chunk)
                    meter.advance(len(chunk))
    except StaleError:
        part.unlink(missing_ok=True)
        raise
    if total not in (None, _length(part)):
        raise PassingError(f"sent {_length(part)} bytes instead of {total}")
    note.unlink()


def _write(file: io.FileIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise tool.Failure(f"{file.name}: {error.strerror}; partial file kept: run me again to continue") from None


def _open(address: str, come: int, part_note: dict) -> contextlib.AbstractContextManager[Source]:
    """Open the file at `address` from byte `come` on if possible, else from its start.

    `part_note` has what was known about it when the first `come` bytes came. Raises PassingError or tool.Failure.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return _open_http(address, come, part_note)
    if scheme in ("file", ""):
        return _open_file(address, come, part_note)
    raise tool.Failure(f"{address}: cannot fetch by {scheme}; give an http, https or file address, or a folder")


@contextlib.contextmanager
def _open_file(address: str, come: int, part_note: dict) -> Iterator[Source]:
    path = Path(unquote(urlsplit(address).path) if address.startswith("file:") else address)
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError(f"{address}: not there") from None
    with file:
        total, changed = _stamp(path)
        version = str(changed)
        start = come if version == part_note.get("version") and come <= total else 0
        file.seek(start)
        yield Source(start, total, version, functools.partial(file.read, CHUNK))


@contextlib.contextmanager
def _open_http(address: str, come: int, part_note: dict) -> Iterator[Source]:
    # Some servers take the suffix .gz for an encoding, which would be undone on the way: ask for the file as it is.
    asked = {"Accept-Encoding": "identity", "User-Agent": "depthfield"}
    if come:
        asked["Range"] = f"bytes={come}-"
        if part_note.get("version"):
            asked["If-Range"] = part_note["version"]
    try:
        answer = requests.get(address, headers=asked, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.exceptions.SSLError as error:
        raise tool.Failure(f"{address}: {_told(error)}") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise PassingError(_told(error)) from None
    except requests.RequestException as error:
        raise tool.Failure(f"{address}: {error}") from None
    with answer:
        start, total = _judge(answer, address, come, part_note)
        strong = None if answer.headers.get("ETag", "").startswith("W/") else answer.headers.get("ETag")
        noted = part_note.get("version") if start else None
        version = strong or answer.headers.get("Last-Modified") or noted  # a 416 response rarely says
        if noted not in (None, version):
            raise StaleError("has changed since the download was interrupted")
        ended = start == total

        def read() -> bytes:
            try:
                return b"" if ended else answer.raw.read1(CHUNK, decode_content=False)
            except urllib3.exceptions.HTTPError as error:
                raise PassingError(_told(error)) from None

        yield Source(start, total, version, read)


def _judge(answer: requests.Response, address: str, come: int, part_note: dict) -> tuple[int, int | None]:
    """Return the start byte of a response and the bytes of the whole file, if it is the file. Raises like `_open`."""
    status = answer.status_code
    words = f"{status} {answer.reason or ''}".rstrip()
    if status == 200:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    if come and status in (206, 416):
        pattern = r"bytes (\d+)-\d+/(\d+)" if status == 206 else r"bytes (\*)/(\d+)"
        match = re.fullmatch(pattern, answer.headers.get("Content-Range", "").strip())
        if match and part_note.get("total") in (None, int(match[2])):
            # 416 also says that nothing is left after the last byte: the download is complete
            start, total = int(match[1] if status == 206 else match[2]), int(match[2])
            if start == come:
                return start, total
        raise StaleError("does not continue where the download was interrupted")
    if status in (403, 404, 410):
        raise AbsentError(f"{address}: {words}")
    if status in (408, 425, 429) or status >= 500:
        pause = _seconds(answer.headers.get("Retry-After"))
        if pause is not None and pause > LONGEST_RETRY_AFTER:
            raise tool.Failure(f"{address}: {words}; it asks to wait for {pause / 60:.0f} minutes")
        raise PassingError(words, pause)
    raise tool.Failure(f"{address}: {words}")


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which has seconds or a date."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return None


def _told(error: Exception) -> str:
    """Describe a network error in a few words: requests and urllib3 wrap the reason in three layers."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS} s"
    if isinstance(error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError)):
        return f"no data for {READ_SECONDS} s"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "connection lost"
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    if isinstance(error, socket.gaierror):
        return "no such host, or no network"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
