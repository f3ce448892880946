"""Files that appear whole or not at all: their temporary names and their permissions."""

import json
import os

import pytest

from depthfield import files


@pytest.fixture
def umask():
    """Set the umask of a test; the one before comes back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_two_hosts_with_one_process_id_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    with files.whole(tmp_path / "a.json") as first, files.whole(tmp_path / "a.json") as second:
        first.write_text("1")
        second.write_text("2")
        assert first != second
        assert all(path.name.startswith(".a.") and path.suffix == ".json" for path in (first, second))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with files.whole_folder(tmp_path / "b") as first, files.whole_folder(tmp_path / "b") as second:
        assert first != second
        first.mkdir()
        second.mkdir()


def test_what_a_killed_process_left_is_swept(tmp_path):
    killed = files.whole(tmp_path / "a.json")
    killed.__enter__().write_text("1")
    (tmp_path / "result.json").touch()
    assert len(list(tmp_path.iterdir())) == 2
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_a_secret_is_never_readable_for_others(tmp_path, umask, mask):
    umask(mask)
    with files.whole(tmp_path / "token", mode=0o600) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600 and temporary.stat().st_size == 0
        temporary.write_text("secret")
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    files.write_json(tmp_path / "state.json", {"a": 1}, mode=0o640)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o640
    umask(0o022)
    assert json.loads((tmp_path / "state.json").read_text()) == {"a": 1}
    files.write_text(tmp_path / "open", "for all")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
