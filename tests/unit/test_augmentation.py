"""Photos varied at random: superpixels, pairs and depths stay those of what is seen."""

import numpy as np
import tensorflow as tf

from depthfield.records import augmentation, batches, patches
from depthfield.records.augmentation import Augmentation

FIELDS = (*batches.FIELDS, "depth_map")


def photo() -> dict[str, tf.Tensor]:
    """96×128 pixels; each cell of 16 has a colour and a depth of its own, two are unmeasured."""
    rng = np.random.default_rng(0)
    cells = np.arange(48).reshape(6, 8)
    image = rng.integers(0, 256, (48, 3), np.uint8)[cells].repeat(16, 0).repeat(16, 1)
    depth = rng.uniform(1, 5, 48).astype(np.float32)
    depth[[3, 20]] = np.nan
    depth_map = depth[cells].repeat(16, 0).repeat(16, 1)
    fields = patches.make(image, depth_map, "", "", "grid:16", ("histogram", "colour"))._asdict()
    return batches.prepare({name: tf.constant(fields[name]) for name in batches.FIELDS}) | {
        "depth_map": tf.constant(depth_map)
    }


def seeds(count: int) -> list[tf.Tensor]:
    return [tf.constant([number, 7], tf.int64) for number in range(count)]


def test_a_mirrored_photo_has_the_same_superpixels_at_the_other_side():
    one = photo()
    mirrored = augmentation.mirror(one)
    for name in ("image", "superpixels", "depth_map"):
        np.testing.assert_array_equal(mirrored[name][:, ::-1], one[name])
    for name in ("pairs", "similarities", "log_depth", "measured", "present"):
        assert mirrored[name] is one[name]


def test_a_crop_shows_what_was_there_as_a_longer_lens_would():
    one = photo()
    colours = {int(label): one["image"].numpy()[one["superpixels"] == label][0] for label in range(48)}
    shares = []
    for seed in seeds(20):
        cut = {name: value.numpy() for name, value in augmentation.warp(one, 0.5, 0.0, seed).items()}
        labels = cut["superpixels"]
        assert labels.shape == (96, 128) and cut["image"].shape == (96, 128, 3)
        np.testing.assert_array_equal(cut["present"], np.isin(np.arange(48), labels))
        ratio = np.exp(cut["log_depth"] - one["log_depth"].numpy())[cut["measured"]]
        assert np.ptp(ratio) < 1e-4 and 0.49 < ratio[0] <= 1
        shares.append(ratio[0])
        # a cell is as much larger as depths are smaller, and still has its colour
        counts = np.bincount(labels.ravel(), minlength=48)
        inner = counts.max()
        assert np.sqrt(256 / inner) == np.clip(np.sqrt(256 / inner), ratio[0] * 0.9, ratio[0] * 1.1)
        middle = np.argwhere(labels == counts.argmax()).mean(axis=0).round().astype(int)
        assert np.abs(cut["image"][tuple(middle)].astype(int) - colours[int(counts.argmax())]).max() <= 3
        here = np.isin(cut["pairs"], labels).all(axis=1)
        assert cut["present"][cut["pairs"][cut["similarities"].any(axis=1)]].all() and here.any()
        assert not cut["measured"][[3, 20]].any()
    assert min(shares) < 0.6 and max(shares) > 0.9


def test_depths_of_superpixels_cut_in_two_are_those_of_what_is_left():
    one = photo()
    one["depth_map"] = tf.random.stateless_uniform([96, 128], [0, 0], 1, 5)
    cut = {name: value.numpy() for name, value in augmentation.warp(one, 0.6, 10.0, seeds(1)[0]).items()}
    for label in set(np.unique(cut["superpixels"])) - {-1}:
        expected = np.log(cut["depth_map"][cut["superpixels"] == label].mean())
        np.testing.assert_allclose(cut["log_depth"][label], expected, rtol=1e-4)


def test_colours_change_and_nothing_else():
    one = photo()
    changed = augmentation.vary(one, Augmentation(colour=1.0), seeds(1)[0])
    assert np.abs(changed["image"].numpy().astype(int) - one["image"].numpy()).mean() > 5
    assert changed["image"].dtype == tf.uint8
    assert all(changed[name] is one[name] for name in one if name != "image")


def test_one_seed_varies_a_photo_in_one_way():
    how = Augmentation(mirror=True, crop=0.7, colour=0.5)
    first, again, other = (augmentation.vary(photo(), how, seed) for seed in [*seeds(1) * 2, seeds(2)[1]])
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["image"], other["image"])
    mirrored = [augmentation.vary(photo(), Augmentation(mirror=True), seed)["image"].numpy() for seed in seeds(40)]
    assert 8 < sum(np.array_equal(image, photo()["image"]) for image in mirrored) < 32


def test_a_homography_takes_where_one_camera_sees_a_point_to_where_the_other_does():
    old, new = (augmentation.intrinsics(*numbers).numpy() for numbers in ((300.0, 64.0, 48.0), (450.0, 50.0, 60.0)))
    turn = augmentation.rotation(0.2, 0.1).numpy()
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (20, 3)).astype(np.float32)
    seen = (new @ points.T) / points[:, 2]
    np.testing.assert_allclose(
        augmentation.homography(old, turn, new) @ seen, old @ turn @ points.T / points[:, 2], rtol=1e-4
    )
    ahead = np.sin(0.2) * np.cos(0.1), -np.sin(0.1), np.cos(0.2) * np.cos(0.1)  # to the right, and up
    np.testing.assert_allclose(turn @ (0, 0, 1), ahead, atol=1e-6)


def test_what_lies_on_a_floor_lies_on_it_for_a_camera_that_is_turned():
    """A level camera 1.5 m above a floor: points put back from the turned camera's depths lie in a plane 1.5 m away."""
    one, focal = photo(), 64 / np.tan(np.radians(augmentation.FIELD_OF_VIEW / 2))
    down = (np.arange(96) + 0.5 - 48) / focal
    floor = np.where(down > 0.1, 1.5 / np.maximum(down, 0.1), np.nan).astype(np.float32)
    one["depth_map"] = tf.constant(np.repeat(floor[:, None], 128, axis=1))
    moved = 0
    for seed in seeds(20):
        turned = {name: value.numpy() for name, value in augmentation.warp(one, 1.0, 12.0, seed).items()}
        x, y = np.meshgrid((np.arange(128) + 0.5 - 64) / focal, (np.arange(96) + 0.5 - 48) / focal)
        points = np.stack([x, y, np.ones_like(x)], axis=-1) * turned["depth_map"][..., None]
        points = points[np.isfinite(points).all(axis=-1)]
        # a plane 1.5 m away, within what a pixel's row may be off, its normal turned by no more than was asked
        centre = points.mean(axis=0)
        normal = np.linalg.svd(points - centre, full_matrices=False)[2][-1]
        assert abs(abs(normal @ centre) - 1.5) < 0.03 and np.ptp(points @ normal) < 0.25
        assert abs(normal[0]) < np.sin(np.radians(12)) and abs(normal[2]) < np.sin(np.radians(6.5))
        moved += abs(normal[2]) > np.sin(np.radians(1))
        outside = turned["superpixels"] < 0
        assert outside.mean() < 0.3 and not np.isfinite(turned["depth_map"][outside]).any()
    assert moved > 10
