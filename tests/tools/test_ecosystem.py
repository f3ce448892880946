"""Records as TensorFlow Datasets and Hugging Face's datasets read them. Neither is needed here: make test-ecosystem
installs them beside the project's packages and runs these tests, which are left out elsewhere."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shell import PROJECT, shards

from depthfield.records import shards as records

pytestmark = pytest.mark.xdist_group("ecosystem")

TFDS = """
import sys

import numpy as np
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory(sys.argv[1])
photos = builder.as_dataset(split=sys.argv[2])
assert len(photos) == builder.info.splits[sys.argv[2]].num_examples
for photo in tfds.as_numpy(photos):
    texts = {"similarity_names": photo["similarity_names"].tolist()}
    np.savez(sys.argv[3] + "/" + photo["name"].decode(), **photo | texts)
"""
HUGGING_FACE = """
import sys
from pathlib import Path

from depthfield.records import huggingface

rooms = huggingface.dataset(sorted(Path(sys.argv[1]).glob("train-*")))
rooms.to_parquet(sys.argv[2])
"""
PARQUET = """
import sys

import numpy as np
from datasets import load_dataset

for photo in load_dataset("parquet", data_files=sys.argv[1], split="train"):
    np.savez(sys.argv[2] + "/" + photo["name"], **{name: np.asarray(value) for name, value in photo.items()})
"""


def needs(library: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(library)
    return pytest.mark.skipif(there is None, reason=f"{library} is not installed; make test-ecosystem includes them")


def alone(script: str, *arguments: object, folder: Path, **environment: str) -> None:
    """Run a script as a user would, without this project's code unless PYTHONPATH says where it is."""
    own = {"HOME": str(folder), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=folder, env=own | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def check(folder: Path, expected: list[dict]) -> None:
    """Each photo in the folder, as NAME.npz, is what the project itself reads."""
    assert {path.stem for path in folder.glob("*.npz")} == {photo["name"].decode() for photo in expected}
    for photo in expected:
        with np.load(folder / f"{photo['name'].decode()}.npz") as arrays:
            found = {name: arrays[name] for name in arrays}
        assert found.keys() == records.SCHEMA.keys()
        for name in ("image", "pairs", "similarities", "depth", "version"):
            np.testing.assert_array_equal(found[name], photo[name], err_msg=name)
        units = np.squeeze(found["depth_map"]).astype(np.float32)
        metres = np.where(units == 0, np.nan, units * np.float32(found["depth_scale"]))
        np.testing.assert_array_equal(metres, photo["depth_map"])
        np.testing.assert_array_equal(np.squeeze(found["superpixels"]), photo["superpixels"])
        for name in ("source", "group", "settings", "similarity_names"):
            assert found[name].astype(str).tolist() == photo[name].astype(str).tolist(), name


def read(paths: list[Path]) -> list[dict]:
    return [
        {name: np.asarray(value) for name, value in photo.items()} | {"name": photo["name"]}
        for photo in records.read(paths)
    ]


@needs("tensorflow_datasets")
@pytest.mark.parametrize("split", ["train", "test[1:]"])
def test_tensorflow_datasets_reads_the_records_as_they_are(prepared, tmp_path, split):
    alone(TFDS, prepared / "rooms/records", split, tmp_path, folder=tmp_path)
    kept = slice(1, None) if "[" in split else slice(None)
    check(tmp_path, read(shards(prepared, split.partition("[")[0]))[kept])


@needs("datasets")
def test_hugging_faces_datasets_reads_the_records_and_each_change_of_them(prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "data")
    for number, split in enumerate(("train", "test")):
        for stale in shards(data, "train") if number else ():
            stale.unlink()
        for shard in shards(data, "test") if number else ():
            shard.rename(shard.with_name(shard.name.replace("test", "train")))
        out = tmp_path / split
        out.mkdir()
        code = {"PYTHONPATH": str(PROJECT / "lib")}
        alone(HUGGING_FACE, data / "rooms/records", out / "rooms.parquet", folder=tmp_path, **code)
        alone(PARQUET, out / "rooms.parquet", out, folder=tmp_path)
        check(out, read(shards(prepared, split)))
