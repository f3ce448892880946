"""Each rule of each protocol by hand: the truth, the pixels that count, the range of predictions, the average."""

import numpy as np
import pytest
from layouts import DEPTHS, PHOTOS, write_make3d1, write_nyu

from depthfield import protocols, published, scoring, tool
from depthfield.samples import Sample

NAN = np.nan
FULL = ["nyu", "make3d-c1", "make3d-c2"]  # those without a crop
AT = [(100, column) for column in range(100, 110)]  # pixels within every protocol's crop


def frame(name: str, value: float, changes: dict) -> np.ndarray:
    """A map of the size of a protocol's truth, `value` everywhere but at `changes`, by (row, column)."""
    depth = np.full(protocols.PROTOCOLS[name].size, value)
    for pixel, other in changes.items():
        depth[pixel] = other
    return depth


def at(name: str, *values: float) -> np.ndarray:
    """A map of the size of a protocol's truth with `values` from AT on, NaN elsewhere."""
    return frame(name, NAN, dict(zip(AT, values, strict=False)))


def tally(name, predicted, truth) -> scoring.Tally:
    return protocols.tally(name, predicted, protocols.counted(name, truth, "truth"), "prediction")


def rel(name, predicted, truth) -> tuple[float, int]:
    """The relative error by a protocol, and over how many pixels."""
    sums, pixels, *_ = tally(name, predicted, truth)
    return sums[0] / pixels, pixels


# ---- the truth


def test_nyu_takes_the_in_painted_and_eigens_the_raw_depth_of_the_test_photos(tmp_path):
    measured = np.where(DEPTHS > 5, 0, DEPTHS + 0.1).astype(np.float32)
    write_nyu(tmp_path, raw_depths=measured)
    for name, depths in (("nyu", DEPTHS), ("nyu-eigen", np.where(measured, measured, NAN))):
        photos = protocols.samples(name, tmp_path, None)
        assert [photo.name for photo in photos] == ["00003", "00006"]
        for photo in photos:
            pixels, truth = photo.read()
            np.testing.assert_array_equal(pixels, PHOTOS[int(photo.name) - 1])
            np.testing.assert_array_equal(truth, depths[int(photo.name) - 1])
    assert [photo.name for photo in protocols.samples("nyu", tmp_path, 1)] == ["00003"]


def test_without_raw_depth_eigens_protocol_says_so(tmp_path):
    write_nyu(tmp_path)
    with pytest.raises(tool.Failure, match="nyu_depth_v2_labeled.mat: has no `rawDepths`"):
        protocols.samples("nyu-eigen", tmp_path, None)


def test_make3ds_grid_is_spread_by_nearest_neighbour_for_c1_and_bilinearly_for_c2(tmp_path):
    grid = np.repeat(np.linspace(10, 64, 55)[:, None], 305, axis=1)  # metre by metre down the photo
    write_make3d1(tmp_path, ["a"], "train"), write_make3d1(tmp_path, ["b"], "test", grid)
    rows = (np.arange(460) + 0.5) * 55 / 460 - 0.5  # of the grid, at the middles of the rows of the truth
    for name, expected in (("make3d-c1", grid[np.rint(rows).astype(int), 0]), ("make3d-c2", 10 + rows.clip(0, 54))):
        (photo,) = protocols.samples(name, tmp_path, None)
        truth = photo.read()[1]
        assert photo.name == "b" and truth.shape == (460, 345)
        np.testing.assert_allclose(truth, np.repeat(expected[:, None], 345, axis=1), rtol=1e-4)


def test_a_folder_without_a_test_photo_is_refused(tmp_path):
    write_make3d1(tmp_path, ["a"], "train")
    for raw, said in ((tmp_path, "no test photo"), (tmp_path / "no", "no such folder")):
        with pytest.raises(tool.Failure, match=said):
            protocols.samples("make3d-c1", raw, None)


# ---- the pixels that count


@pytest.mark.parametrize("inside", [(45, 41), (45, 600), (470, 41), (470, 600)])
@pytest.mark.parametrize("outside", [(44, 300), (471, 300), (200, 40), (200, 601)])
def test_eigens_crop_to_the_pixel(inside, outside):
    truth, predicted = (frame("nyu-eigen", 2, changes) for changes in ({}, {inside: 3, outside: 9}))
    assert rel("nyu-eigen", predicted, truth) == (0.5 / (426 * 560), 426 * 560)


@pytest.mark.parametrize("name", FULL)
def test_other_protocols_use_the_full_frame(name):
    predicted, (rows, columns) = frame(name, 2, {(0, 0): 3, (-1, -1): 3}), protocols.PROTOCOLS[name].size
    assert rel(name, predicted, frame(name, 2, {})) == (pytest.approx(1 / (rows * columns)), rows * columns)


@pytest.mark.parametrize(
    ("name", "shape", "size"), [("nyu", (6, 8), "640×480"), ("nyu-eigen", (240, 320), "640×480"),
                                ("make3d-c1", (345, 460), "345×460"), ("make3d-c2", (55, 305), "345×460")]
)  # fmt: skip
def test_truth_of_another_size_is_not_the_protocols(name, shape, size):
    with pytest.raises(tool.Failure, match=f"^it: its depth map has {shape[1]}×{shape[0]} pixels, but {name}.*{size}$"):
        protocols.counted(name, np.ones(shape), "it")


@pytest.mark.parametrize(
    ("name", "counts", "not_"),
    [
        ("nyu", [0.0005, 9.9, 25], [NAN, 0]),
        ("make3d-c1", [0.0005, 9.9, 69.99], [NAN, 0, 70, 81]),
        ("make3d-c2", [0.0005, 69.9, 70, 81], [NAN, 0]),
    ],
)
def test_which_depths_count(name, counts, not_):
    truth = at(name, *counts, *not_)
    assert rel(name, 1.5 * truth, truth) == (pytest.approx(0.5), len(counts))
    with pytest.raises(tool.Failure, match="^truth: no pixel of its depth map counts"):
        rel(name, truth, at(name, *not_))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_which_raw_depths_count(kind):
    truth = at("nyu-eigen", 0.0011, 9.99, 0, 0.001, 10, 11).astype(kind)
    assert tally("nyu-eigen", truth, truth).pixels == 2


# ---- the predictions


def test_predictions_are_clamped_by_eigens_protocol_and_by_no_other():
    far, near = (rel("nyu-eigen", at("nyu-eigen", p), at("nyu-eigen", 9)) for p in (20, 1e-5))
    assert far == (pytest.approx(1 / 9), 1) and near == (pytest.approx((9 - 1e-3) / 9), 1)
    for name in FULL:
        assert rel(name, at(name, 200, 1e-5), at(name, 50, 50)) == (pytest.approx((3 + 1 - 2e-7) / 2), 2)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_a_pixel_that_counts_needs_a_prediction(name):
    assert rel(name, at(name, 2, NAN), at(name, 2, NAN)) == (0, 1)
    with pytest.raises(tool.Failure, match="^prediction: 4 of the 5 pixels that count have no prediction$"):
        rel(name, at(name, 2, NAN, np.inf, 0, -1, 2), at(name, 2, 2, 2, 2, 2, NAN))


# ---- the average


def sample(name: str, truth) -> Sample:
    photo = np.zeros((*np.shape(truth), 3), np.uint8)
    return Sample(name, "test", name, "", (), lambda: (photo, np.asarray(truth, float)))


def bad() -> tuple:
    raise tool.Failure("bad.mat: damaged")


@pytest.mark.parametrize(
    ("name", "headline", "official"),
    [
        ("nyu", scoring.POOLED, 654),
        ("nyu-eigen", scoring.MEAN, 654),
        ("make3d-c1", scoring.POOLED, 134),
        ("make3d-c2", scoring.MEAN, 134),
    ],
)
def test_averages_by_hand_the_refused_and_those_that_lack_are_reported(name, headline, official, capsys):
    wide, narrow, none = frame(name, 2, {}), at(name, 4), at(name)
    photos = [sample("a", wide), sample("b", narrow), sample("c", none), sample("d", wide)._replace(read=bad)]

    def predict(one: Sample, photo: np.ndarray) -> dict:
        assert photo.shape == (*wide.shape, 3)
        return {"field": frame(name, {"a": 2.2, "b": 6}.get(one.name, 1), {})}

    summaries, refused = protocols.score(name, "raw", photos, predict)
    field, pixels = summaries["field"], 426 * 560 if name == "nyu-eigen" else wide.size
    assert refused == 2 and field["images"] == 2 and field["pixels"] == pixels + 1
    assert field[scoring.POOLED]["rel"] == pytest.approx((0.1 * pixels + 0.5) / (pixels + 1))
    assert field[scoring.MEAN]["rel"] == pytest.approx(0.3)
    assert field[scoring.POOLED]["rms"] == pytest.approx(np.sqrt((0.04 * pixels + 4) / (pixels + 1)))
    assert field[scoring.MEAN]["rms"] == pytest.approx((0.2 + 2) / 2)
    assert (field["protocol"], field["headline"], field["official images"]) == (name, headline, official)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and f"c: no pixel of its depth map counts by {name}" in told[0] and "bad.mat" in told[1]
    assert f"only 2 photos are scored, but {name} has {official}" in told[2]
    with pytest.raises(tool.Failure, match="no photo could be scored"):
        protocols.score(name, "raw", photos[2:], predict)


def test_the_official_number_of_photos_gives_no_message(capsys):
    depth = frame("make3d-c2", 2, {})
    photos = [sample(str(number), depth) for number in range(134)]
    summaries, refused = protocols.score("make3d-c2", "raw", photos, lambda one, photo: {"field": depth})
    assert refused == 0 and summaries["field"]["images"] == 134 and capsys.readouterr().err == ""


# ---- beside what is published


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_each_number_of_the_table_has_its_protocol_and_its_source(name, capsys):
    truth, field, mean = (frame(name, depth, {}) for depth in (2, 3, 2.2))
    maps = {"field": field, "mean depth": mean}
    summaries, _ = protocols.score(name, "raw", [sample("a", truth)], lambda *_: maps)
    lines = published.table(name, summaries, True).splitlines()
    numbered = lines[1 : 5 + len(published.ROWS[name])]
    assert all(line.startswith(f"{name}, ") for line in numbered)
    starred = [line for line in numbered if " * " in line]
    assert len(starred) == 2 and all(protocols.PROTOCOLS[name].headline in line for line in starred)
    assert starred[0].split()[-6:] == ["0.500", "0.176", "1.000", "0.000", "1.000", "1.000"]
    assert any(line.startswith(f"{name}: ") and "(*)" in line for line in lines)
    assert any(line.startswith("scored here: 1 of ") and line.endswith(" pixels, of raw") for line in lines)
    for row, line in zip(published.ROWS[name], numbered[4:], strict=True):
        number = line.partition(" published ")[2].partition("[")[2].partition("]")[0]
        assert row.method in line and f"{row.values[0]:.3f}" in line and f"[{number}] {row.source}" in lines
    assert published.table(name, summaries, False).count("published") == 0


def test_the_papers_rows_are_those_of_its_poster():
    poster = {row.method: row.values for row in published.ROWS["nyu"]}
    assert poster["DCNF-FCSP, fine-tuned"] == (0.213, 0.087, 0.759, 0.650, 0.906, 0.976)
    assert poster["DCNF, fine-tuned"] == (0.230, 0.095, 0.824, 0.614, 0.883, 0.971)
    assert {row.source for row in published.ROWS["make3d-c2"]} == {published.MEMORY, published.CONFLICT}
