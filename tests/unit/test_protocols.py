"""Each rule of each protocol by hand: the truth, the pixels that count, the range of predictions, the average."""

import numpy as np
import pytest
from layouts import DEPTHS, PHOTOS, write_make3d1, write_nyu

from depthfield import protocols, published, scoring, tool
from depthfield.samples import Sample

NAN = np.nan
SMALL = ["nyu", "make3d-c1", "make3d-c2"]  # those without a crop, and so without a size


def eigen(value: float, changes: dict) -> np.ndarray:
    """A map of NYU's size, `value` everywhere but at `changes`, by (row, column)."""
    frame = np.full(protocols.FRAME, value)
    for place, other in changes.items():
        frame[place] = other
    return frame


def rel(name, predicted, truth) -> tuple[float, int]:
    """The relative error by a protocol, and over how many pixels."""
    one = protocols.tally(name, np.asarray(predicted, float), np.asarray(truth, float), "it")
    return one.sums[0] / one.pixels, one.pixels


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
    assert rel("nyu-eigen", eigen(2, {inside: 3, outside: 9}), eigen(2, {})) == (0.5 / (426 * 560), 426 * 560)


@pytest.mark.parametrize("name", SMALL)
def test_the_others_have_the_full_frame(name):
    predicted = np.full((5, 7), 2.0)
    predicted[0, 0] = predicted[4, 6] = 3
    assert rel(name, predicted, np.full((5, 7), 2.0)) == (pytest.approx(1 / 35), 35)


def test_eigens_crop_is_of_frames_of_nyus_size_alone():
    with pytest.raises(tool.Failure, match="^photo: 320×240 pixels, but the crop of nyu-eigen is one of 640×480$"):
        protocols.tally("nyu-eigen", np.ones((240, 320)), np.ones((240, 320)), "photo")


@pytest.mark.parametrize(
    ("name", "counts", "not_"),
    [
        ("nyu", [0.0005, 9.9, 25], [NAN, 0]),
        ("make3d-c1", [0.0005, 9.9, 69.99], [NAN, 0, 70, 81]),
        ("make3d-c2", [0.0005, 69.9, 70, 81], [NAN, 0]),
    ],
)
def test_which_depths_count(name, counts, not_):
    truth = np.array([counts + not_])
    assert rel(name, 1.5 * np.nan_to_num(truth, nan=9), truth) == (pytest.approx(0.5), len(counts))
    with pytest.raises(tool.Failure, match="^it: no pixel of its depth counts"):
        rel(name, [not_], [not_])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_which_raw_depths_count(kind):
    places = [(100, column) for column in range(100, 106)]
    truth = eigen(NAN, dict(zip(places, (0.0011, 9.99, 0, 0.001, 10, 11), strict=True))).astype(kind)
    assert protocols.tally("nyu-eigen", truth, truth, "it").pixels == 2


# ---- the predictions


def test_predictions_are_clamped_by_eigens_protocol_and_by_no_other():
    truth, at = 9.0, [(100, column) for column in range(100, 104)]
    far, near, none, zero = (rel("nyu-eigen", eigen(truth, {at[0]: p}), eigen(NAN, {at[0]: truth})) for p in
                             (20, 1e-5, NAN, 0))  # fmt: skip
    assert far == (pytest.approx(1 / 9), 1)
    assert near == none == zero == (pytest.approx((9 - 1e-3) / 9), 1)
    for name in SMALL:
        assert rel(name, [[200, 1e-5]], [[50, 50]]) == (pytest.approx((3 + 1 - 2e-7) / 2), 2)


@pytest.mark.parametrize("name", SMALL)
def test_a_pixel_that_counts_wants_a_prediction(name):
    assert rel(name, [[2, NAN]], [[2, NAN]]) == (0, 1)
    with pytest.raises(tool.Failure, match="^it: 2 of the 3 pixels that count have no prediction$"):
        rel(name, [[2, NAN, 0, 2]], [[2, 2, 2, NAN]])


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
def test_averages_by_hand_the_refused_and_those_that_lack_are_told(name, headline, official, capsys):
    wide, narrow = eigen(2, {}), eigen(NAN, {(100, 100): 4})
    photos = [sample("a", wide), sample("b", narrow), sample("c", eigen(NAN, {})), sample("d", wide)._replace(read=bad)]

    def predict(one: Sample, photo: np.ndarray) -> dict:
        assert photo.shape == (480, 640, 3)
        return {"field": eigen({"a": 2.2, "b": 6}.get(one.name, 1), {})}

    summaries, refused = protocols.score(name, "raw", photos, predict)
    field, pixels = summaries["field"], 426 * 560 if name == "nyu-eigen" else 480 * 640
    assert refused == 2 and field["images"] == 2 and field["pixels"] == pixels + 1
    assert field[scoring.POOLED]["rel"] == pytest.approx((0.1 * pixels + 0.5) / (pixels + 1))
    assert field[scoring.MEAN]["rel"] == pytest.approx(0.3)
    assert field[scoring.POOLED]["rms"] == pytest.approx(np.sqrt((0.04 * pixels + 4) / (pixels + 1)))
    assert field[scoring.MEAN]["rms"] == pytest.approx((0.2 + 2) / 2)
    assert (field["protocol"], field["headline"], field["official images"]) == (name, headline, official)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and f"c: no pixel of its depth counts by {name}" in told[0] and "bad.mat" in told[1]
    assert f"2 photos scored; {name} is of {official}" in told[2]
    with pytest.raises(tool.Failure, match="no photo could be scored"):
        protocols.score(name, "raw", photos[2:], predict)


def test_the_official_number_of_photos_is_nothing_to_tell(capsys):
    photos = [sample(str(number), [[2.0]]) for number in range(134)]
    summaries, refused = protocols.score("make3d-c2", "raw", photos, lambda one, photo: {"field": np.array([[2.0]])})
    assert refused == 0 and summaries["field"]["images"] == 134 and capsys.readouterr().err == ""


# ---- beside what is published


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_each_number_of_the_table_bears_its_protocol_and_its_source(name, capsys):
    summaries, _ = protocols.score(
        name, "raw", [sample("a", eigen(2, {}))], lambda *_: {"field": eigen(3, {}), "mean depth": eigen(2.2, {})}
    )
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
