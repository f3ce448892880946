"""fetch-dataset from the shell, against a real server on this machine that misbehaves on request."""

import gzip
import hashlib
import http.server
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from screen import Screen
from shell import PROJECT, wait_for

from depthfield import files, preparation, tool
from depthfield.samples import catalogue, fetch, make3d, nyu, unpack

COMMAND = PROJECT / "bin/fetch-dataset"
PATIENCE = 20  # seconds any of this may take


# --- what the tests stand on --------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path; `manners[path]` names how each next request for it is answered, the last one for good."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files, self.manners, self.asked = {}, {}, []
        self.stalled, self.go_on = threading.Event(), threading.Event()

    def handle_error(self, request, client_address):
        """Clients that go away in the middle are what some of these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        manners = server.manners.get(self.path, ["good"])
        manner = manners.pop(0) if len(manners) > 1 else manners[0]
        server.asked.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path)
        if manner.startswith("status "):
            _, status, *headers = manner.split(maxsplit=2)
            return self.answer(int(status), b"<html>sorry", dict(header.split(": ") for header in headers))
        if body is None:
            return self.answer(404, b"<html>no such page", {})
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start, asked = 0, self.headers.get("Range")
        if asked and manner != "no range" and self.headers.get("If-Range", tag) == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers = {"ETag": tag, "Content-Length": len(body) - start}
        if start:
            begin = start + 7 if manner == "wrong range" else start
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        if manner == "unsized":
            del headers["Content-Length"]
        if manner == "lie":
            headers["Content-Length"] += 1000
        if manner == "encoded":
            headers["Content-Encoding"] = "gzip"
        left = body[start:]
        if manner in ("drop", "stall"):
            left = left[: len(left) // 2]
        if manner == "drop early":
            left = left[:1000]
        self.answer(206 if start else 200, left, headers)
        if manner == "stall":
            server.stalled.set()
            server.go_on.wait(PATIENCE)
            self.wfile.write(body[start + len(left) :])

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def lab(tmp_path, server):
    """A catalogue of one dataset, `toy`, of one file, and its server."""
    return Lab(tmp_path, server)


class Lab:
    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.catalogue, self.data = folder / "lab.toml", folder / "data"
        self.home = self.data / "toy"
        self.body = random.Random(1).randbytes(300_000)
        server.files["/toy.mat"] = self.body
        self.hold(toy=[{"name": "toy.mat"}])

    def hold(self, **datasets):
        """Write the catalogue: files by dataset; an address not given is on the server."""
        lines = []
        for name, held in datasets.items():
            lines += [f"[{name}]", 'title = "Toys"', 'holds = "toys"', 'licence = "for research use"']
            lines += ['citation = "Toymaker 2005"', 'reader = "make3d"']
            for file in held:
                file = {"address": f"{self.server.address}/{file['name']}", **file}
                lines += [f"[[{name}.files]]", *(f"{key} = {json.dumps(value)}" for key, value in file.items())]
        self.catalogue.write_text("\n".join(lines))

    def line(self, *arguments):
        return [COMMAND, "--catalogue", self.catalogue, "--data", self.data, *arguments]

    def fetch(self, *arguments, **how):
        return run(*self.line(*arguments), **how)

    def start(self, *arguments):
        return subprocess.Popen(
            self.line(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where we run in the background
        )


def environment(**more):
    ours = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "DATASETS")}
    return {**ours, "NO_PROXY": "127.0.0.1", **more}


def run(*line, **how):
    how.setdefault("env", environment())
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, **how)


def tree(folder):
    """The files under a folder that a user sees there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


def tar(*members, mode="w:gz"):
    """A tar of (name, bytes) or of ready TarInfos."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode=mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                archive.addfile(entry, io.BytesIO(member[1]))
    return written.getvalue()


def entry(name, kind, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def photo():
    written = io.BytesIO()
    Image.fromarray(np.full((60, 40, 3), 99, np.uint8)).save(written, "JPEG")
    return written.getvalue()


def grid():
    written = io.BytesIO()
    scipy.io.savemat(written, {"Position3DGrid": np.full((11, 6, 4), 5.0)}, do_compression=True)
    return written.getvalue()


def make3d_at(server):
    """A small Make3D on the server, in its true formats; its files as the catalogue lists them."""
    served = {
        "Train400Img.tar.gz": tar(*((f"Train400Img/img-{n}.jpg", photo()) for n in (1, 2))),
        "Train400Depth.tgz": tar(*((f"Train400Depth/depth_sph_corr-{n}.mat", grid()) for n in (1, 2))),
        "Test134.tar.gz": tar(("Test134/img-9.jpg", photo())),
        "Test134Depth.tar.gz": tar(("Gridlaserdata/depth_sph_corr-9.mat", grid())),
    }
    server.files.update({f"/{name}": body for name, body in served.items()}, **{"/Readme": b"read me"})
    return [*({"name": name, "unpack": True} for name in served), {"name": "Readme", "optional": True}]


# --- all well -----------------------------------------------------------------------------------------------------


def test_a_whole_dataset_is_fetched_verified_unpacked_and_read(lab, server, tmp_path):
    lab.hold(toy=make3d_at(server))
    server.manners["/Test134.tar.gz"] = ["encoded"]  # as servers do that take .gz for an encoding
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(COMMAND)
    line = [tmp_path / "linked", "--catalogue", lab.catalogue, "toy"]
    told = run(*line, cwd=tmp_path / "elsewhere", env=environment(DATA_DIR="../data"))
    assert (told.returncode, told.stdout) == (0, "../data/toy/raw\n"), told.stderr
    assert "for research use; please cite Toymaker 2005" in told.stderr
    assert tree(lab.home / "raw") == [
        "Readme",
        "Test134/Test134/img-9.jpg",
        "Test134Depth/Gridlaserdata/depth_sph_corr-9.mat",
        *(f"Train400Depth/Train400Depth/depth_sph_corr-{n}.mat" for n in (1, 2)),
        *(f"Train400Img/Train400Img/img-{n}.jpg" for n in (1, 2)),
    ]
    assert [(sample.split, sample.name) for sample in make3d.samples(lab.home / "raw")] == [
        ("test", "9"),
        ("train", "1"),
        ("train", "2"),
    ]
    assert (lab.home / "downloads/Test134.tar.gz").read_bytes() == server.files["/Test134.tar.gz"]
    assert run("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=lab.home).returncode == 0
    assert not list(lab.home.rglob("*.part*"))

    asked = len(server.asked)
    again = lab.fetch("toy")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{lab.home}/raw\n", "")
    assert len(server.asked) == asked


def test_what_changed_on_the_disk_is_noticed(lab, server):
    """A bad file is fetched again and kept aside; an archive that is still good is only unpacked again."""
    lab.hold(toy=[{"name": "toy.mat"}, {"name": "box.tgz", "unpack": True}])
    server.files["/box.tgz"] = tar(("doll", b"a doll"), ("ball", b"a ball"))
    assert lab.fetch("toy").returncode == 0
    (lab.home / "raw/toy.mat").write_bytes(lab.body[::-1])
    (lab.home / "raw/box/doll").unlink()
    (lab.home / "raw/box/mine").write_text("nobody's business")
    server.asked.clear()
    told = lab.fetch("toy")
    assert told.returncode == 0
    digest = hashlib.sha256(lab.body[::-1]).hexdigest()
    assert f"raw/toy.mat: its sha256 is {digest}, but at the first download" in told.stderr
    assert "raw/box/doll: changed or missing" in told.stderr
    assert (lab.home / "raw/toy.mat").read_bytes() == lab.body
    assert (lab.home / "downloads/toy.mat.bad").read_bytes() == lab.body[::-1]
    assert (lab.home / "raw/box/doll").read_bytes() == b"a doll"
    assert [path for path, _ in server.asked] == ["/toy.mat"]


def test_what_was_put_there_by_hand_is_taken_if_it_can_be(lab, server):
    (lab.home / "raw").mkdir(parents=True)
    (lab.home / "raw/toy.mat").write_bytes(b"from a colleague")
    assert lab.fetch("toy").returncode == 0
    assert not server.asked
    assert hashlib.sha256(b"from a colleague").hexdigest() in (lab.home / "SHA256SUMS").read_text()
    lab.hold(toy=[{"name": "toy.mat", "size": len(lab.body)}])
    told = lab.fetch("toy")
    assert told.returncode == 1  # what the server has is not what was recorded
    assert "has 16 bytes, but the catalogue says 300000" in told.stderr


def test_force_fetches_again(lab, server):
    assert lab.fetch("toy").returncode == lab.fetch("--force", "toy").returncode == 0
    assert [path for path, _ in server.asked] == ["/toy.mat"] * 2


def test_a_mirror_may_be_a_folder_or_an_address(lab, server, tmp_path):
    """MIRROR/NAME/FILE is looked for first, then MIRROR/FILE."""
    names = ("toy/inner.mat", "outer.mat")
    lab.hold(toy=[{"name": Path(name).name, "address": "http://127.0.0.1:9/gone"} for name in names])
    for name in names:
        kept = tmp_path / "mirror" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(lab.body)
        server.files[f"/mirror/{name}"] = lab.body
    for mirror in ("mirror", f"file://{tmp_path}/mirror/", f"{server.address}/mirror"):
        told = lab.fetch("--mirror", mirror, "--force", "toy", cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        for name in names:
            assert (lab.home / "raw" / Path(name).name).read_bytes() == lab.body
            assert (tmp_path / "mirror" / name).exists()
    told = lab.fetch("--mirror", "none", "--force", "toy", cwd=tmp_path)
    assert "toy: outer.mat: none/toy/outer.mat: not there; none/outer.mat: not there\n" in told.stderr


def test_two_at_once_fetch_once(lab, server):
    server.manners["/toy.mat"] = ["stall", "good"]
    with lab.start("toy") as first:
        assert server.stalled.wait(PATIENCE)
        with lab.start("toy") as second:
            assert "waiting for another fetch-dataset" in second.stderr.readline()
            server.go_on.set()
            for process in (first, second):
                assert process.wait(PATIENCE) == 0
                assert process.stdout.read() == f"{lab.home}/raw\n"
    assert len(server.asked) == 1


def test_a_terminal_shows_how_much_has_come_and_of_what_size(lab, server):
    server.manners["/toy.mat"] = ["stall"]
    screen = Screen()
    threading.Thread(target=lambda: server.stalled.wait(PATIENCE) and server.go_on.set(), daemon=True).start()
    assert screen.run(*lab.line("toy"), cwd=lab.folder, **environment()) == 0
    assert screen.left == ["fetch-dataset: toy: for research use; please cite Toymaker 2005", f"{lab.home}/raw"]
    assert any(re.fullmatch(r"fetch-dataset: toy.mat: \S+ \S+ of 300 kB \(\d+%\)", line) for line in screen.shown)
    assert any(line.startswith("fetch-dataset: toy.mat.part: checking its sha256, ") for line in screen.shown)


# --- connections --------------------------------------------------------------------------------------------------


def test_a_broken_download_continues_by_range(lab, server):
    server.manners["/toy.mat"] = ["status 503 Retry-After: 0", "drop", "good"]
    told = lab.fetch("toy")
    assert told.returncode == 0, told.stderr
    assert [told for _, told in server.asked] == [None, None, "bytes=150000-"]
    assert (lab.home / "raw/toy.mat").read_bytes() == lab.body
    assert "503 Service Unavailable; retrying in 0.0 s (1 of 5)" in told.stderr
    assert "connection lost; retrying" in told.stderr


@pytest.mark.parametrize("manner", ["good", "no range", "wrong range", "changed", "complete", "too much"])
def test_a_broken_download_continues_right_or_from_the_start(lab, server, manner, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    address, part = f"{server.address}/toy.mat", lab.folder / "toy.mat.part"
    server.manners["/toy.mat"] = ["drop"]
    with pytest.raises(tool.Failure, match="connection lost; 150 kB kept"):
        fetch.download([address], part, None, retries=0)
    assert part.read_bytes() == lab.body[:150_000]
    if manner == "changed":
        server.files["/toy.mat"] = lab.body = lab.body[::-1]
    if manner == "complete":
        part.write_bytes(lab.body)
    if manner == "too much":
        part.write_bytes(lab.body + b"more")
    server.manners["/toy.mat"] = [manner, "good"]
    fetch.download([address], part, None, retries=1)
    assert part.read_bytes() == lab.body
    assert server.asked[1][1].startswith("bytes=")
    fresh = {"wrong range", "too much"}  # where nothing that was sent is of use
    assert len(server.asked) == 2 + (manner in fresh)


PAGE = b"\n<!DOCTYPE html><html>This domain is for sale"
FAILING = {
    "gone": ("status 404", b"", "404 Not Found; try --mirror"),
    "closed": ("status 401", b"", "401 Unauthorized"),
    "broken": ("status 500 Retry-After: 0", b"", "500 Internal Server Error, 2 times in a row"),
    "busy": ("status 503 Retry-After: 7200", b"", "asks to wait for 120 minutes"),
    "liar": ("lie", b"toy", "does not continue where the download was interrupted, 2 times in a row"),
    "sold": ("good", PAGE, "sent a web page, not the file; if the host has moved, try --mirror"),
    "other": ("good", b"toy", "has 3 bytes, but the catalogue says 300000: not the same file"),
    "short": ("unsized", b"toy", "has 3 bytes, but the catalogue says 300000: not the same file"),
}


def test_what_cannot_be_fetched_is_named_and_does_not_stop_the_rest(lab, server):
    held = {name: [{"name": f"{name}.mat"}] for name in FAILING}
    for name in ("other", "short"):
        held[name][0]["size"] = 300_000
    held["none"] = [{"name": "none.mat", "address": "http://127.0.0.1:9/none.mat"}]
    held["ftp"] = [{"name": "ftp.mat", "address": "ftp://127.0.0.1/ftp.mat"}]
    lab.hold(**held, toy=[{"name": "toy.mat"}])
    for name, (manner, body, _) in FAILING.items():
        server.manners[f"/{name}.mat"], server.files[f"/{name}.mat"] = [manner], body
    told = lab.fetch(*held, "toy", "--retries", "1")
    assert (told.returncode, told.stdout) == (1, f"{lab.home}/raw\n")
    reasons = {name: reason for name, (_, _, reason) in FAILING.items()}
    reasons |= {
        "none": "Connection refused, 2 times in a row; if the host is gone, try --mirror",
        "ftp": "cannot fetch by ftp",
    }
    lines = [line for line in told.stderr.splitlines() if "retrying" not in line and "cite" not in line]
    assert len(lines) == len(held), told.stderr
    for name, line in zip(held, lines, strict=True):
        assert line.startswith(f"fetch-dataset: {name}: {name}.mat: "), line
        assert reasons[name] in line
        assert not tree(lab.data / name / "raw")
    asked = [path for path, _ in server.asked]
    for name, times in {"gone": 1, "closed": 1, "broken": 2, "busy": 1, "sold": 1, "other": 1}.items():
        assert asked.count(f"/{name}.mat") == times, name


def test_a_missing_readme_is_reported_and_not_an_error(lab, server):
    lab.hold(toy=[{"name": "toy.mat"}, {"name": "Readme", "optional": True}])
    told = lab.fetch("toy")
    assert (told.returncode, told.stdout) == (0, f"{lab.home}/raw\n")
    assert "Readme: " in told.stderr
    assert "the dataset is complete without it" in told.stderr


def test_pauses_grow_and_progress_starts_them_over(lab, server, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    busy = "status 503"
    server.manners["/toy.mat"] = [busy, busy, busy, "drop", busy, "good"]
    part = lab.folder / "toy.mat.part"
    fetch.download([f"{server.address}/toy.mat"], part, None, retries=3)
    assert part.read_bytes() == lab.body
    assert pauses == [1, 2, 4, 1, 2]


def test_a_server_that_never_gets_further_is_given_up(lab, server, monkeypatch):
    """It drops each time and cannot go on where it dropped: that is no progress."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Handler, "parse_request", without_range(Handler.parse_request))
    server.manners["/toy.mat"] = ["drop", "drop early"] * 5
    with pytest.raises(tool.Failure, match="connection lost, 4 times in a row"):
        fetch.download([f"{server.address}/toy.mat"], lab.folder / "toy.mat.part", None, retries=3)
    assert len(server.asked) == 4


def without_range(parse):
    def parsed(handler):
        fine = parse(handler)
        del handler.headers["Range"]
        return fine

    return parsed


def test_a_server_that_falls_silent_is_left(lab, server, monkeypatch):
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.2)
    server.manners["/toy.mat"] = ["stall"]
    with pytest.raises(tool.Failure, match=r"no data for 0.2 s; 150 kB kept"):
        fetch.download([f"{server.address}/toy.mat"], lab.folder / "toy.mat.part", None, retries=0)


# --- checksums ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_the_catalogues_is_never_used(lab):
    lab.hold(toy=[{"name": "toy.mat", "sha256": "0" * 64}])
    told = lab.fetch("toy")
    assert told.returncode == 1
    found = hashlib.sha256(lab.body).hexdigest()
    assert f"its sha256 is {found}, but the catalogue says {'0' * 64}; kept as {lab.home}/downloads" in told.stderr
    assert tree(lab.home) == ["downloads/toy.mat.bad"]


def test_a_sum_recorded_once_is_checked(lab, server):
    assert lab.fetch("toy").returncode == 0
    server.files["/toy.mat"] = lab.body[::-1]
    told = lab.fetch("--force", "toy")
    assert (told.returncode, told.stdout) == (1, "")
    for body in (lab.body, lab.body[::-1]):
        assert hashlib.sha256(body).hexdigest() in told.stderr
    assert (lab.home / "raw/toy.mat").read_bytes() == lab.body
    (lab.home / "SHA256SUMS").unlink()  # as the message advises
    assert lab.fetch("--force", "toy").returncode == 0
    assert (lab.home / "raw/toy.mat").read_bytes() == lab.body[::-1]


# --- archives -----------------------------------------------------------------------------------------------------

GOOD = ("photos/img-1.jpg", b"good")
FLIPPED = tar(GOOD, ("photos/img-2.jpg", b"lost"), mode="w").replace(b"img-2", b"img-3")  # breaks its header's sum
LINKED_ZIP = zipfile.ZipInfo("link")
LINKED_ZIP.external_attr = 0o120777 << 16


def zipped(*members):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, body in members:
            archive.writestr(name, body)
    return written.getvalue()


OUTSIDE = "refused, nothing unpacked: its member {} is outside its folder"
BAD = {
    "up.tar.gz": (tar(GOOD, ("photos/../../evil", b"!")), OUTSIDE.format("'photos/../../evil'")),
    "absolute.tgz": (tar(GOOD, ("/tmp/evil", b"!")), OUTSIDE.format("'/tmp/evil'")),
    "symbolic.tgz": (tar(GOOD, entry("evil", tarfile.SYMTYPE, "..")), "'evil' is a symbolic link"),
    "hard.tgz": (tar(GOOD, entry("evil", tarfile.LNKTYPE, GOOD[0])), "'evil' is a hard link"),
    "device.tgz": (tar(GOOD, entry("evil", tarfile.CHRTYPE)), "'evil' is a device"),
    "up.zip": (zipped(GOOD, ("../evil", b"!")), OUTSIDE.format("'../evil'")),
    "link.zip": (zipped(GOOD, (LINKED_ZIP, b"..")), "'link' is a symbolic link"),
    "torn.tar.gz": (tar(GOOD, ("big", random.Random(2).randbytes(9000)))[:-99], "damaged, or not an archive"),
    "sum.tgz": (tar(GOOD)[:-8] + bytes(8), "damaged, or not an archive"),
    "torn.zip": (zipped(GOOD)[:-30], "damaged, or not an archive"),
    "flipped.tgz": (gzip.compress(FLIPPED), "damaged, or not an archive"),
    "noise.tgz": (b"no archive at all", "damaged, or not an archive"),
}


def test_a_bad_archive_is_refused_whole(lab, server):
    held = {name.replace(".", "-"): [{"name": name, "unpack": True}] for name in BAD}
    lab.hold(**held)
    server.files.update({f"/{name}": body for name, (body, _) in BAD.items()})
    told = lab.fetch(*held)
    assert (told.returncode, told.stdout) == (1, "")
    lines = [line for line in told.stderr.splitlines() if "cite" not in line]
    assert len(lines) == len(BAD), told.stderr
    for (name, (_, reason)), line in zip(BAD.items(), lines, strict=True):
        assert f": {name}: " in line
        assert reason in line
    kept = [f"data/{name.replace('.', '-')}/downloads/{name}.bad" for name in BAD]
    assert tree(lab.folder) == sorted(["lab.toml", *kept])
    assert not any(lab.data.glob("*/raw/*"))


def test_an_archive_that_was_mended_is_taken(lab, server):
    """The sum of a damaged download must not be what its good version is held to."""
    lab.hold(toy=[{"name": "box.zip", "unpack": True}])
    server.files["/box.zip"] = zipped(GOOD)[:-30]
    assert lab.fetch("toy").returncode == 1
    server.files["/box.zip"] = zipped(GOOD)
    assert lab.fetch("toy").returncode == 0
    assert (lab.home / "raw/box" / GOOD[0]).read_bytes() == b"good"


def test_an_unpacked_folder_that_was_being_replaced_is_restored(lab, server):
    lab.hold(toy=[{"name": f"{name}.zip", "unpack": True} for name in "ab"])
    server.files.update({f"/{name}.zip": zipped(GOOD) for name in "ab"})
    assert lab.fetch("toy").returncode == 0
    (lab.home / ".unpacking-b").mkdir()
    (lab.home / "raw/b").rename(lab.home / ".unpacking-b/old")
    asked = len(server.asked)
    told = lab.fetch("toy")
    assert (told.returncode, told.stderr, len(server.asked)) == (0, "", asked)
    assert tree(lab.home / "raw") == ["a/photos/img-1.jpg", "b/photos/img-1.jpg"]


# --- disks and signals --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(lab):
    """The data folder as a disk of 512 kB."""
    lab.data.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", lab.data)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield lab.data
    subprocess.run(["umount", lab.data], check=True)


def test_a_disk_too_small_is_refused_before_anything_is_fetched(small_disk, lab, server):
    lab.hold(toy=[{"name": "toy.mat", "size": 900_000}])
    told = lab.fetch("toy")
    assert told.returncode == 1
    assert "900 kB needed for toy" in told.stderr
    assert "524 kB free" in told.stderr
    assert not server.asked
    lab.hold(toy=[{"name": "toy.mat"}])  # now only the server knows
    server.files["/toy.mat"] = bytes(900_000)
    told = lab.fetch("toy")
    assert "900 kB needed for the rest of" in told.stderr
    lab.hold(toy=[{"name": "bomb.tgz", "unpack": True}])
    server.files["/bomb.tgz"] = tar(("bomb", bytes(900_000)))
    told = lab.fetch("toy")
    assert "904 kB needed to unpack it" in told.stderr
    assert "bomb.tgz" in told.stderr


def test_a_disk_that_fills_up_keeps_what_has_come(small_disk, lab, server):
    server.files["/toy.mat"] = random.Random(3).randbytes(900_000)
    server.manners["/toy.mat"] = ["unsized"]  # so that nobody can know beforehand
    told = lab.fetch("toy")
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 2
    assert f"{lab.home}/downloads/toy.mat.part: No space left on device; partial file kept" in told.stderr
    come = (lab.home / "downloads/toy.mat.part").stat().st_size
    assert come > 400_000
    subprocess.run(["mount", "-o", "remount,size=2m", lab.data], check=True)
    assert lab.fetch("toy").returncode == 0
    assert server.asked[-1] == ("/toy.mat", f"bytes={come}-")
    assert (lab.home / "raw/toy.mat").read_bytes() == server.files["/toy.mat"]


def test_a_file_too_large_for_the_disk_keeps_what_has_come(lab):
    """What every user can have, without a disk of his own: a limit on the size of files."""
    told = lab.fetch("toy", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    assert told.returncode == 1
    assert "toy.mat.part: File too large; partial file kept" in told.stderr
    assert (lab.home / "downloads/toy.mat.part").read_bytes() == lab.body[:200_000]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_only_what_can_be_gone_on_with(lab, server, number, status):
    server.manners["/toy.mat"] = ["stall", "good"]
    part = lab.home / "downloads/toy.mat.part"
    with lab.start("toy") as process:
        assert server.stalled.wait(PATIENCE)
        wait_for(lambda: part.exists() and part.stat().st_size == 150_000, PATIENCE)
        process.send_signal(number)
        assert process.wait(PATIENCE) == status
        assert "Traceback" not in process.stderr.read()
    assert tree(lab.home) == ["downloads/toy.mat.part", "downloads/toy.mat.part.json"]
    server.go_on.set()
    assert lab.fetch("toy").returncode == 0
    assert server.asked[-1] == ("/toy.mat", "bytes=150000-")
    assert (lab.home / "raw/toy.mat").read_bytes() == lab.body


# --- rooms --------------------------------------------------------------------------------------------------------


def test_rooms_are_rendered_once_for_their_settings(tmp_path):
    line = [COMMAND, "--data", tmp_path, "rooms", "--count", "2,1", "-j", "1", "--size"]
    raw = tmp_path / "rooms/raw"
    first = run(*line, "48x64")
    assert (first.returncode, first.stdout) == (0, f"{raw}\n"), first.stderr
    assert tree(raw) == ["nyu_depth_v2_labeled.mat", "rooms.json", "splits.mat"]
    assert [sample.split for sample in nyu.samples(raw)] == ["train", "train", "test"]
    made = (raw / "rooms.json").stat().st_ino
    assert run(*line, "48x64").returncode == 0
    assert (raw / "rooms.json").stat().st_ino == made
    large = run(*line, "9000000x9000000", "--as", "large")
    assert large.returncode == 1
    assert "2.67 PB needed to render 3 photos, " in large.stderr


def test_only_force_replaces_what_exists(tmp_path):
    line = [COMMAND, "--data", tmp_path, "rooms", "--count", "1,0", "-j", "1", "--size", "16x16"]
    raw = tmp_path / "rooms/raw"
    assert run(*line).returncode == 0
    made = (raw / "rooms.json").read_bytes()

    def refused(*more: str) -> str:
        told = run(*line, *more)
        assert (told.returncode, told.stdout, len(told.stderr.splitlines())) == (1, "", 1), told.stderr
        return told.stderr

    both = "contains rooms of --count 1,0 --size 16x16 --seed 0, not --count 1,0 --size 16x16 --seed 1; use --as"
    way_out = "NAME for another folder, or --force (make: FORCE=1) to replace this one"
    assert f"{raw}: {both} {way_out}" in refused("--seed", "1")
    assert (raw / "rooms.json").read_bytes() == made
    beside = run(*line, "--seed", "1", "--as", "rooms-1")
    assert (beside.returncode, beside.stdout) == (0, f"{tmp_path}/rooms-1/raw\n"), beside.stderr
    assert len(list(preparation.reader(tmp_path / "rooms-1/raw", None, {})(tmp_path / "rooms-1/raw"))) == 1
    (raw / "splits.mat").unlink()
    again = f"--force (make: FORCE=1) renders {raw} again"
    assert f"{raw}/splits.mat: changed or missing since it was rendered; {again}" in refused()
    assert run(*line, "--seed", "1", "--force").returncode == 0
    assert json.loads((raw / "rooms.json").read_text())["settings"]["seed"] == 1
    (tmp_path / "mine/raw/rgb").mkdir(parents=True)
    assert f"{tmp_path}/mine/raw: exists, but was not rendered by fetch-dataset" in refused("--as", "mine")


@pytest.mark.parametrize("ending", ["exception", "SIGKILL"])
def test_a_folder_that_was_being_replaced_is_restored(tmp_path, ending):
    """Interrupted between the two renames, the only copy was lost."""
    target, kept, toy = tmp_path / "raw", tmp_path / "kept", tmp_path / "toy"
    for folder, place in ((target, "old"), (kept, "old"), (toy / "raw", "rooms.json")):
        folder.mkdir(parents=True)
        (folder / place).write_text("{}")
    end = "os.kill(os.getpid(), signal.SIGKILL)" if ending == "SIGKILL" else "raise OSError"
    script = f"""
import os, signal, sys
from pathlib import Path
from depthfield import files
from depthfield.samples import unpack
rename, which = Path.rename, sys.argv[2]
def second(source, path):
    if Path(path).name == Path(sys.argv[1]).name:
        Path.rename = rename
        {end}
    return rename(source, path)
Path.rename = second
target = Path(sys.argv[1])
replaced = files.whole_folder(target) if which == "files" else unpack.whole_folder(target, target.parent / which)
with replaced as folder:
    folder.mkdir(exist_ok=True)
"""
    for folder, way in ((target, ".work"), (kept, "files"), (toy / "raw", ".rendering")):
        done = run(sys.executable, "-c", script, folder, way)
        assert done.returncode == (-signal.SIGKILL if ending == "SIGKILL" else 1), done.stderr
        assert folder.exists() == (ending == "exception")
    with pytest.raises(RuntimeError), unpack.whole_folder(target, tmp_path / ".work"):
        raise RuntimeError
    with pytest.raises(RuntimeError), files.whole_folder(kept):
        raise RuntimeError
    assert tree(target) == tree(kept) == ["old"]
    assert run(COMMAND, "--data", tmp_path, "rooms", "--as", "toy").returncode == 1
    assert tree(toy / "raw") == ["rooms.json"]


# --- words --------------------------------------------------------------------------------------------------------


def test_the_list_tells_a_stranger_what_there_is(tmp_path):
    told = run(COMMAND, "--list", cwd=tmp_path)
    assert told.returncode == 0
    for words in ("nyu      2.97 GB", "for research use", "Silberman", "/Train400Img.tar.gz", "readme_set2.txt"):
        assert words in told.stdout
    headed = run("bash", "-o", "pipefail", "-c", f"{COMMAND} --list | head -1", cwd=tmp_path)
    assert (headed.returncode, headed.stderr) == (0, "")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nyuu", "toy"], 1, "fetch-dataset: no dataset 'nyuu'; the catalogue has toy"),
        (["--force"], 2, "Usage:"),
        (["toy", "--retries", "few"], 2, "--retries takes a whole number of at least 0, not 'few'"),
        (["toy", "--count", "4"], 2, "--count takes two whole numbers separated by ',', not '4'"),
        (["toy", "--as", "toy-1"], 2, "--as needs exactly one dataset, and one that is rendered"),
        (["toy", "--catalogue", "none.toml"], 1, "no catalogue: none.toml: No such file or directory"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_done(lab, server, arguments, status, told):
    line = [COMMAND, "--data", lab.data, *arguments]
    failed = run(*line, env=environment(DATASETS=str(lab.catalogue)))
    assert failed.returncode == status
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not lab.data.exists()
    assert not server.asked


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("title =", "titel ="), r"\[toy\]: unknown key 'titel'"),
        (('reader = "make3d"', ""), r"\[toy\]: reader missing"),
        (('reader = "make3d"', "reader = 3"), r"\[toy\]: reader = 3 has the wrong type"),
        (('name = "toy.mat"', 'name = "../toy.mat"'), r"'../toy.mat' is not a plain file name"),
        (('name = "toy.mat"', 'name = "toy.mat"\nunpack = true'), r"toy.mat cannot be unpacked: its suffix"),
        (('name = "toy.mat"', 'name = "toy.mat"\nsize = true'), r"file 1: size = True has the wrong type"),
        (("[[toy.files]]", "rendered = true\n[[toy.files]]"), "either files or rendered"),
        (("[toy]", "[toy"), "Expected ']'"),
    ],
)
def test_an_invalid_catalogue_is_refused(lab, change, told):
    lab.catalogue.write_text(lab.catalogue.read_text().replace(*change))
    with pytest.raises(tool.Failure, match=told):
        catalogue.read(lab.catalogue)
