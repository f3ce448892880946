"""Patch files and shards: what goes in comes out, and what is damaged is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from depthfield import preparation
from depthfield.records import augmentation, batches, index, manifest, packing, patches, shards
from depthfield.samples import Sample
from depthfield.tool import Failure

NAMES = ("texture", "histogram", "colour")
AS_THEY_ARE = augmentation.Augmentation()


def patch(seed: int = 0, far: float = 8.0, size: tuple[int, int] = (64, 96)) -> patches.Patch:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    depth = rng.uniform(0.5, far, size).astype(np.float32)
    depth[:16, :16] = np.nan
    return patches.make(image, depth, f"photo {seed}", f"scene {seed // 2}", "grid:16", NAMES)


def write_patches(folder, count: int) -> list:
    paths = [folder / f"{seed:03d}.npz" for seed in range(count)]
    for seed, path in enumerate(paths):
        patches.write(path, patch(seed))
    return paths


def same(one, other) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def test_a_patch_file_gives_back_what_was_written(tmp_path):
    made = patch()
    patches.write(tmp_path / "a.npz", made)
    back = patches.read(tmp_path / "a.npz")
    assert all(same(np.asarray(one), np.asarray(other)) for one, other in zip(made, back, strict=True))
    assert np.isnan(made.depth[0]) and not np.isnan(made.depth[1:]).any()
    assert patches.Settings.from_json(back.settings) == ("grid:16", NAMES, 96, 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": np.zeros(3, np.float32)}, "not labelled 0 to 2"),
        ({"similarity_names": np.array(["colour"])}, "similarity_names is 1, which does not fit"),
        ({"superpixels": np.zeros((64, 96), np.int32)}, "not labelled"),
        ({"pairs": np.array([[1, 0]], np.int32)}, "out of order"),
        ({"image": np.zeros((64, 96, 3), np.float32)}, "image is float32"),
        ({"depth_map": np.zeros((64, 96), np.float32)}, "zero or negative"),
    ],
)
def test_a_patch_file_that_contradicts_itself_is_refused(tmp_path, change, said):
    made = patch()
    if "pairs" in change:
        change["similarities"] = made.similarities[:1]
    patches.write(tmp_path / "a.npz", made._replace(**change))
    with pytest.raises(Failure, match=f"a.npz: .*{said}"):
        patches.read(tmp_path / "a.npz")


def test_truncated_and_foreign_patch_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    patches.write(path, patch())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Failure, match=r"a\.npz: not a complete patch file"):
        patches.read(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(Failure, match=r"a\.npz: not a patch file"):
        patches.read(path)
    with pytest.raises(Failure, match="no such file"):
        patches.read(tmp_path / "none.npz")


def test_a_patch_file_of_another_photo_or_group_is_made_again(tmp_path):
    photo = np.zeros((64, 96, 3), np.uint8), np.ones((64, 96), np.float32)
    how = preparation.way("grid:16", "colour", None, None, force=False)
    first = Sample("a", "train", "a.png", "rgb 1", (), lambda: photo)
    for sample in (first, first._replace(group="rgb 2"), first._replace(source="b.png")):
        made = patches.read(preparation.make(sample, tmp_path, how).path)
        assert (made.source, made.group) == (sample.source, sample.group)

    def unreadable() -> None:
        raise Failure("b.png: cut short")

    outcome = preparation.make(first._replace(read=unreadable), tmp_path, how)
    assert outcome.refused == "a.png: b.png: cut short" and not outcome.path.exists()


@pytest.mark.parametrize("far", [8.0, 81.0])
def test_an_example_gives_back_the_patch_and_metres_to_a_65535th(tmp_path, far):
    made = patch(far=far)
    shards.write(tmp_path / "x.tfrecord", [shards.encode("name", made)])
    (back,) = shards.read([tmp_path / "x.tfrecord"])
    for field in ("image", "superpixels", "pairs", "similarities", "depth"):
        assert same(getattr(made, field), back[field]), field
    assert back["name"] == b"name" and back["source"] == b"photo 0" and back["group"] == b"scene 0"
    np.testing.assert_allclose(back["depth_map"], made.depth_map, atol=far / 65535)  # NaN stays NaN


def test_shards_are_equal_within_one_complete_and_the_same_each_time(tmp_path):
    paths = write_patches(tmp_path / "patches/train", 11)
    packed = packing.pack(paths, tmp_path / "records", 4, force=False)
    counts = [len(list(shards.read([shard], ("name",)))) for shard in packed.shards]
    assert sorted(counts) == [2, 3, 3, 3] and packed.refused == 0
    names = [example["name"].decode() for example in shards.read(packed.shards, ("name",))]
    assert names == [path.stem for path in paths]
    before = [shard.read_bytes() for shard in packed.shards]
    stamps = [shard.stat().st_mtime_ns for shard in packed.shards]
    assert [s.stat().st_mtime_ns for s in packing.pack(paths, tmp_path / "records", 4, False).shards] == stamps
    again = packing.pack(paths, tmp_path / "records", 4, force=True)
    assert [shard.read_bytes() for shard in again.shards] == before


def test_another_set_of_shards_takes_the_place_of_the_old_one(tmp_path):
    paths = write_patches(tmp_path / "patches/train", 4)
    packing.pack(paths, tmp_path / "records", 4, force=False)
    packing.pack(paths[:3], tmp_path / "records", 2, force=False)
    assert [path.name for path in sorted((tmp_path / "records").glob("train-*"))] == [
        "train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("packed", "now", "said"),
    [
        ([], ["train/a", "test/a"], "test/a.npz: contains the same photo as {}/train/a.npz"),
        (["test/a"], ["train/a"], "test/a.npz: contains the same photo as {}/train/a.npz; test was packed by an"),
    ],
)
def test_a_photo_of_both_splits_is_refused_before_anything_is_written(tmp_path, packed, now, said):
    for place in (*packed, *now):
        patches.write(tmp_path / f"{place}.npz", patch(ord(place[-1].lower())))

    def pack(places: list) -> None:
        packing.pack([tmp_path / f"{place}.npz" for place in places], tmp_path / "records", 2, force=False)

    pack(packed)
    before = sorted(path.name for path in (tmp_path / "records").glob("*"))
    with pytest.raises(Failure, match=said.format(tmp_path)):
        pack(now)
    assert sorted(path.name for path in (tmp_path / "records").glob("*")) == before


def test_shards_of_a_split_that_is_no_more_are_removed_with_the_whole(tmp_path, capsys):
    train, test = write_patches(tmp_path / "train", 3), [tmp_path / "test/a.npz"]
    patches.write(test[0], patch(9))
    records = tmp_path / "records"
    packing.pack([*train, *test], records, 1, force=False)
    packing.pack(train, records, 1, force=False)
    assert (records / "test-00000-of-00001.tfrecord").exists() and capsys.readouterr().err == ""
    packing.pack(train, records, 1, force=False, whole=True)
    left = [".train.json", "dataset_info.json", "features.json", "train-00000-of-00001.tfrecord"]
    assert sorted(path.name for path in records.iterdir()) == left
    assert f"{records}: removed the shards of test, which has no patch files now" in capsys.readouterr().err


def test_a_record_has_the_fields_of_the_schema():
    example = tf.train.Example.FromString(shards.encode("name", patch()))
    assert example.features.feature.keys() == shards.SCHEMA.keys() == shards.FEATURES.keys()
    for name, field in shards.SCHEMA.items():
        kind = example.features.feature[name].WhichOneof("kind")
        assert kind == {"int64": "int64_list", "float32": "float_list"}.get(field.dtype, "bytes_list"), name
        picture = example.features.feature[name].bytes_list.value[0] if field.is_png else None
        assert picture is None or tf.io.decode_png(picture, 0, field.dtype).shape == (64, 96, field.shape[2])


def test_metadata_say_which_shards_there_are(tmp_path):
    """As TensorFlow Datasets reads them: tests/tools/test_ecosystem.py tries it."""
    records = tmp_path / "7-rooms/records"
    packed = [*write_patches(tmp_path / "train", 5), tmp_path / "test/a.npz"]
    patches.write(packed[-1], patch(9))
    packing.pack(packed[:5], records, 2, force=False)
    packing.pack(packed[5:], records, 2, force=False)  # what was packed by an earlier call stays
    info = json.loads((records / "dataset_info.json").read_text())
    assert (info["name"], info["version"]) == ("photos_7_rooms", "2.0.0")
    size = sum(path.stat().st_size for path in records.glob("train-*"))
    assert [(one["name"], one["shardLengths"]) for one in info["splits"]] == [("train", ["2", "3"]), ("test", ["1"])]
    assert info["splits"][0]["numBytes"] == str(size)
    features = json.loads((records / "features.json").read_text())["featuresDict"]["features"]
    assert features["similarities"]["tensor"] == {
        "shape": {"dimensions": ["-1", "3"]}, "dtype": "float32", "encoding": "none"
    }  # fmt: skip
    assert features["depth_map"]["image"]["dtype"] == "uint16"
    packing.pack([], records, 2, force=False, whole=True)
    assert not list(records.glob("*.json"))


@pytest.mark.parametrize(
    "other", [{"bounds": "320x"}, {"settings": patches.Settings("grid:8", NAMES, 96, 64).to_json()}]
)
def test_patch_files_made_in_two_ways_are_not_packed_together(tmp_path, other):
    """As an interrupted make-patches with another --width leaves them."""
    for place, made in (("train/a", patch(1)), ("test/b", patch(2)._replace(**other))):
        patches.write(tmp_path / f"patches/{place}.npz", made)
    with pytest.raises(Failure, match="test/b.npz: made with other options than the others; run make-patches again"):
        packing.pack(list(tmp_path.glob("patches/*/*")), tmp_path / "records", 1, force=False)
    assert not (tmp_path / "records").exists()


def test_patch_files_are_those_of_the_manifests(tmp_path, capsys):
    out = tmp_path / "patches"
    paths = write_patches(out / "train", 4)
    with pytest.raises(Failure, match=f"{out}: no manifest lists its patch files; run make-patches"):
        manifest.choose([paths[0]])
    (out / ".mine.1-a.manifest").write_text("train/000.npz\n")  # as another task of an array job is writing it
    manifest.write(out, "mine", ["train/000.npz", "train/001.npz", "train/007.npz", "train/008.npz"])
    for given, chosen, refused, said in (
        ([out], paths[:2], 2, ["train/007.npz and 1 more: missing", "train/002.npz and 1 more: left out, because no"]),
        (paths[1:3], paths[1:2], 1, [f"{out}/train/002.npz: left out, because no manifest of make-patches lists it"]),
        (paths[:1], paths[:1], 0, []),
    ):
        found = manifest.choose(given)
        told = capsys.readouterr().err.splitlines()
        assert found == ({out: set(chosen)}, {out} & set(given), refused)
        assert len(told) == len(said) and all(words in line for words, line in zip(said, told, strict=True))
    with pytest.raises(Failure, match=r"other.manifest and \S+/mine.manifest both list train/001.npz"):
        manifest.write(out, "other", ["train/001.npz"])
    manifest.write(out, "other", ["train/002.npz"])
    assert manifest.read(out) >= set(paths[:3])


def test_two_photos_that_want_one_patch_file_are_refused(tmp_path):
    first, second = (Sample("a", "train", source, "", (), None) for source in ("a.png", "b/a.png"))
    with pytest.raises(Failure, match=f"a.png and b/a.png would both become {tmp_path}/train/a.npz"):
        preparation.claim([first, second], tmp_path, tmp_path)


def test_a_damaged_patch_file_is_left_out_and_shards_stay_equal(tmp_path, capsys):
    paths = write_patches(tmp_path / "patches/train", 5)
    paths[0].write_bytes(b"nothing")
    packed = packing.pack(paths, tmp_path / "records", 2, force=False)
    assert packed.refused == 1 and "000.npz" in capsys.readouterr().err
    assert [len(list(shards.read([shard], ("name",)))) for shard in packed.shards] == [2, 2]


def test_truncated_foreign_and_newer_shards_are_named(tmp_path, monkeypatch):
    shard = tmp_path / "x.tfrecord"
    shards.write(shard, [shards.encode("name", patch())])
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(Failure, match=r"x\.tfrecord: truncated or damaged"):
        list(shards.read([shard]))
    shard.write_bytes(b"not a record at all")
    with pytest.raises(Failure, match=r"x\.tfrecord: truncated or damaged"):
        list(shards.read([shard]))
    for version in (shards.VERSION + 1, 1):
        with monkeypatch.context() as another:
            another.setattr(shards, "VERSION", version)
            example = tf.train.Example.FromString(shards.encode("name", patch()))
            if version == 1:
                del example.features.feature["group"]
            shards.write(shard, [example.SerializeToString(deterministic=True)])
        with pytest.raises(Failure, match="another version of to-tfrecord"):
            list(shards.read([shard]))


def write_shards(folder, sizes) -> list[index.Photo]:
    """Two shards of photos of these sizes."""
    made = [shards.encode(str(number), patch(number, size=size)) for number, size in enumerate(sizes)]
    paths = [folder / f"train-{part:05d}-of-00002.tfrecord" for part in (0, 1)]
    for part, path in enumerate(paths):
        shards.write(path, made[part * len(made) // 2 : (part + 1) * len(made) // 2])
    return [photo for photo, _ in index.read(paths)]


SIZES = [(64, 96)] * 4 + [(48, 64), (48, 64), (64, 96)]


def test_photos_are_found_where_their_records_lie(tmp_path):
    photos = write_shards(tmp_path, SIZES)
    assert [photo.source for photo in photos] == [f"photo {number}" for number in range(7)]
    assert [photo.settings[2:] for photo in photos] == [size[::-1] for size in SIZES]
    assert len({photo.digest for photo in photos}) == 7
    locations = index.locate(photos[::-1])
    for number in range(7):
        example = shards.decode(index.record(locations, tf.constant(number, tf.int64)), ("name",))
        assert example["name"].numpy() == str(6 - number).encode()


def test_shards_that_are_missing_are_named(tmp_path):
    write_shards(tmp_path, SIZES[:2])
    kept = tmp_path / "train-00001-of-00002.tfrecord"
    assert len(list(index.read([kept]))) == 1  # some of a set that is all there
    (tmp_path / "train-00000-of-00002.tfrecord").unlink()
    with pytest.raises(Failure, match="shards are missing: train-00000-of-00002.tfrecord; make"):
        list(index.read([kept]))


def test_a_shard_that_changes_while_training_is_named_with_the_reason(tmp_path, monkeypatch):
    write_shards(tmp_path, SIZES[:2])
    monkeypatch.chdir(tmp_path)
    shard, other = (Path(f"train-0000{part}-of-00002.tfrecord") for part in (0, 1))
    drawn = batches.once([photo for photo, _ in index.read([shard, other])], 2)
    monkeypatch.chdir("/")  # a worker in another folder must find what the chief names
    list(drawn)
    whole, shard = (tmp_path / shard).read_bytes(), tmp_path / shard
    for change, told in (
        (lambda: shard.write_bytes(whole[:100]), f"{shard}: its size has changed"),
        (lambda: shard.write_bytes(b"x" * len(whole)), "a photo: Could not parse example input"),
        (shard.unlink, f"{shard}: no such file"),
    ):
        change()
        with pytest.raises(tf.errors.OpError) as failed:
            list(drawn)
        assert re.fullmatch(told, shards.unread(failed.value))


def test_a_batch_has_photos_of_one_size_its_superpixels_and_pairs_padded(tmp_path):
    photos = write_shards(tmp_path, SIZES)
    drawn = list(batches.once(photos, 3))
    assert [batch["image"].shape[:3] for batch in drawn] == [(3, 64, 96), (2, 64, 96), (2, 48, 64)]
    assert [batch["present"].numpy().sum(axis=1).tolist() for batch in drawn] == [[24] * 3, [24] * 2, [12] * 2]
    first, depth = drawn[0], patch(0).depth
    assert not first["measured"][0, 0] and first["log_depth"][0, 0] == 0
    np.testing.assert_allclose(np.exp(first["log_depth"][0, 1:24]), depth[1:], rtol=1e-5)


def drawn(photos, count: int, batch_size: int = 2, how=AS_THEY_ARE, **stream) -> list[dict]:
    found = batches.endless(photos, batch_size, how, batches.Stream(3, **stream)).take(count)
    return [{name: value.numpy() for name, value in batch.items()} for batch in found]


def seen(drawn_batches) -> list[bytes]:
    """Which photos these batches show, as often as they do."""
    return [image.tobytes() for batch in drawn_batches for image in batch["image"]]


def test_an_epoch_shows_each_photo_once_and_the_next_in_another_order(tmp_path):
    photos = write_shards(tmp_path, SIZES)
    both = drawn(photos, 8)  # three batches of five photos and one of two
    first, second = seen(both[:4]), seen(both[4:])
    assert len(set(first)) == 7 and sorted(first) == sorted(second) and first != second


@pytest.mark.parametrize("left_out", [1, 3, 4, 9])
def test_a_stream_continues_as_if_it_had_not_been_left(tmp_path, left_out):
    how = augmentation.Augmentation(mirror=True, turn=8.0, colour=0.5)
    photos = write_shards(tmp_path, SIZES)
    whole, rest = drawn(photos, 10, how=how), drawn(photos, 10 - left_out, how=how, batch=left_out)
    for batch, again in zip(whole[left_out:], rest, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], again[name])


@pytest.mark.parametrize("workers", [1, 3])
def test_over_any_three_epochs_all_workers_together_show_every_photo(tmp_path, workers):
    """Attempts are cut short at any step and go on with other draws; photos of other sizes are among them."""
    photos = write_shards(tmp_path, [*SIZES] * 3)
    each = len(batches.order(photos, 2).first)
    for first in (0, each // 2, 2 * each + 3):
        shown, step = set(), first
        for steps in (each, each // 2, each + each // 2):  # three attempts that last three epochs together
            share = -(-steps // workers)
            for worker in range(workers):
                own = {"batch": step // workers, "attempt": 1 + step, "worker": worker, "workers": workers}
                shown |= set(seen(drawn(photos, share, **own)))
            step += steps
        assert len(shown) == len(photos) == 21


def test_each_worker_of_each_attempt_draws_its_own(tmp_path):
    photos, how = write_shards(tmp_path, [(64, 96)]), augmentation.Augmentation(colour=1.0)
    streams = [{"attempt": attempt, "worker": worker, "workers": 2} for attempt in (1, 9) for worker in (0, 1)]
    shown = [drawn(photos, 1, how=how, **stream)[0] for stream in streams]
    assert len(set(seen(shown))) == 4 and len({batch["seed"].tobytes() for batch in shown}) == 4


@pytest.mark.parametrize("how", [AS_THEY_ARE, augmentation.Augmentation(True, 0.7, 8.0, 0.2)])
def test_batches_of_photos_kept_in_memory_are_those_of_photos_read_each_time(tmp_path, monkeypatch, how):
    photos = write_shards(tmp_path, [(64, 96)] * 5)
    assert batches.fits_in_memory(photos, ())
    kept = drawn(photos, 6, how=how)
    monkeypatch.setattr(batches, "KEPT_BYTES", 0)
    assert not batches.fits_in_memory(photos, ())
    for one, other in zip(kept, drawn(photos, 6, how=how), strict=True):
        assert one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def test_photos_of_several_sizes_are_not_kept(tmp_path):
    assert not batches.fits_in_memory(write_shards(tmp_path, [(64, 96), (96, 64)]), ())
