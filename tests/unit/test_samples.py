"""The datasets' own formats, made here small and true to form, and any folder of the user's own."""

import pickle
import re

import h5py
import numpy as np
import pytest
import scipy.io
from layouts import DEPTHS, PHOTOS, write_make3d1, write_nyu
from PIL import Image

from depthfield import tool
from depthfield.samples import Sample, folder, images, make3d, nyu

random = np.random.default_rng(4)


def failure(call, kind=tool.Failure) -> str:
    """The one line that `call()` fails with."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(sample: Sample, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What `sample` gives, in another process's hands, after checking the promises of the contract."""
    photo, depth = pickle.loads(pickle.dumps(sample)).read()
    assert photo.shape == (height, width, 3) and photo.dtype == np.uint8 and photo.flags.c_contiguous
    assert depth.shape == (height, width) and depth.dtype == np.float32
    assert sample.split in ("train", "test") and not {"/", "\n"} & set(sample.name)
    return photo, depth


# ------------------------------------------------------------------------------------------------------------- nyu


def test_nyu_frames_carry_their_official_number_and_split(tmp_path):
    found = list(nyu.samples(write_nyu(tmp_path)))
    assert [(sample.name, sample.split) for sample in found] == [
        ("00001", "train"), ("00002", "train"), ("00003", "test"), ("00005", "train"), ("00006", "test")
    ]  # fmt: skip
    assert [sample.group for sample in found] == [f"kitchen_{scene:04d}" for scene in (0, 0, 1, 2, 2)]
    assert found[3].source == "nyu_depth_v2_labeled.mat#5" and found[3].inputs == (str(tmp_path / nyu.FRAMES),)
    for sample in found:
        photo, depth = check(sample, 12, 16)
        np.testing.assert_array_equal(photo, PHOTOS[int(sample.name) - 1])
        np.testing.assert_array_equal(depth, DEPTHS[int(sample.name) - 1])


def test_nyu_depth_of_zero_is_no_measurement_and_below_zero_refused(tmp_path):
    depths = DEPTHS.copy()
    depths[0, 3, 4], depths[1, 3, 4], depths[2] = 0, -1, 0
    first, second, third, *_ = nyu.samples(write_nyu(tmp_path, depths=depths))
    assert np.isnan(check(first, 12, 16)[1][3, 4])
    assert failure(second.read) == f"{tmp_path}/{nyu.FRAMES}#2: negative depth, down to -1 m"
    assert failure(third.read) == f"{tmp_path}/{nyu.FRAMES}#3: no measured depth at all"


@pytest.mark.parametrize("name", [nyu.FRAMES, nyu.DIVISION])
def test_nyu_says_which_file_is_missing(tmp_path, name):
    (write_nyu(tmp_path) / name).unlink()
    told = failure(lambda: list(nyu.samples(tmp_path)))
    assert told == f"{tmp_path}/{name}: missing; run fetch-dataset"


@pytest.mark.parametrize(
    "train, test, words",
    [
        ((1, 2), (2, 3), "names frame 2 twice (train and test)"),
        ((1, 1), (2,), "names frame 1 twice (train and train)"),
        ((1, 7), (2,), "trainNdxs names frame 7, but nyu_depth_v2_labeled.mat has 1 to 6"),
        ((1,), (0,), "testNdxs names frame 0, but"),
    ],
)
def test_an_nyu_division_that_does_not_fit_is_refused(tmp_path, train, test, words):
    write_nyu(tmp_path, train=train, test=test)
    told = failure(lambda: list(nyu.samples(tmp_path)))
    assert told.startswith(f"{tmp_path}/{nyu.DIVISION}: ") and words in told


def test_an_nyu_division_of_other_content_is_refused(tmp_path):
    for content, words in (
        ({"trainNdxs": [[1]]}, "has no variable testNdxs"),
        ({"trainNdxs": [["x"]], "testNdxs": [[1]]}, "trainNdxs are not frame numbers"),
        ({"trainNdxs": [[1.5]], "testNdxs": [[1]]}, "trainNdxs names frame 1.5, but"),
        ({"trainNdxs": [[np.inf, np.nan]], "testNdxs": [[1]]}, "trainNdxs names frame inf, but"),
    ):
        scipy.io.savemat(write_nyu(tmp_path) / nyu.DIVISION, content)
        assert words in failure(lambda: list(nyu.samples(tmp_path)))
    (tmp_path / nyu.DIVISION).write_bytes((tmp_path / nyu.FRAMES).read_bytes())
    assert "splits.mat: " in failure(lambda: list(nyu.samples(tmp_path)))


def test_an_nyu_file_that_is_cut_short_or_of_another_kind_is_refused(tmp_path):
    path = write_nyu(tmp_path) / nyu.FRAMES
    whole = path.read_bytes()
    scipy.io.savemat(path, {"depths": DEPTHS, "images": PHOTOS})
    matlab5 = path.read_bytes()
    for content, words in (
        (whole[: len(whole) // 2], "cut short; fetch it again"),
        (matlab5, "a MATLAB 5 file, expected MATLAB 7.3 (HDF5); fetch it again"),
        (b"<html>404</html>", "not an HDF5 file, expected MATLAB 7.3 (HDF5); fetch it again"),
        (b"", "not an HDF5 file, expected MATLAB 7.3 (HDF5); fetch it again"),
    ):
        path.write_bytes(content)
        assert failure(lambda: list(nyu.samples(tmp_path))) == f"{path}: {words}"


def test_an_nyu_file_without_its_arrays_is_refused(tmp_path):
    for photos, depths, words in (
        (PHOTOS, None, "has no `depths`"),
        (None, DEPTHS, "has no `images`"),
        (PHOTOS[:4], DEPTHS, "images (4, 3, 16, 12) and depths (6, 16, 12) do not match"),
        (PHOTOS, DEPTHS[:, :, :8], "do not match"),
        (PHOTOS, (1000 * DEPTHS).astype(np.uint16), "images are uint8 and depths uint16"),
        (PHOTOS / 255, DEPTHS, "images are float64"),
    ):
        write_nyu(tmp_path, photos, depths)
        told = failure(lambda: list(nyu.samples(tmp_path)))
        assert told.startswith(f"{tmp_path}/{nyu.FRAMES}: ") and words in told
    for scenes, words in (
        ([], "has no `scenes`; expected the labelled part of NYU Depth v2"),
        (["a"] * 5, "its `scenes` are not 6 names, one per frame"),
    ):
        write_nyu(tmp_path, scenes=scenes)
        assert failure(lambda: list(nyu.samples(tmp_path))) == f"{tmp_path}/{nyu.FRAMES}: {words}"


def test_a_damaged_nyu_frame_is_refused_and_the_others_read(tmp_path):
    path = write_nyu(tmp_path) / nyu.FRAMES
    first, *others = nyu.samples(tmp_path)
    with h5py.File(path) as file:
        place = file["depths"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(place.byte_offset + 512)
        file.write(b"\xff" * 40)
    assert failure(first.read).startswith(f"{path}#1: damaged (")
    for sample in others:
        check(sample, 12, 16)


# ---------------------------------------------------------------------------------------------------------- make3d


def test_make3d_pairs_by_the_identifier_and_names_what_has_no_partner(tmp_path, capsys):
    names = ["10.21op2-p-139t000", "combined1-p-2t0", "math7-p-282t0"]
    write_make3d1(tmp_path / "deep" / "archive", names)
    write_make3d1(tmp_path, ["op1-p-1t0"], "test")
    (tmp_path / "deep/archive/Train400Depth/depth_sph_corr-combined1-p-2t0.mat").unlink()
    (tmp_path / "deep/archive/Train400Img/img-math7-p-282t0.jpg").unlink()
    (tmp_path / "deep/archive/Train400Img/._img-math7-p-282t0.jpg").write_bytes(b"of a Mac")
    (tmp_path / "Test134/Thumbs.db").write_bytes(b"of Windows")
    write_make3d1(tmp_path / "depthmaps", [])
    found = list(make3d.samples(tmp_path))
    assert [(sample.split, sample.name) for sample in found] == [("test", "op1-p-1t0"), ("train", names[0])]
    assert [sample.group for sample in found] == ["op1", "10.21op2"]
    assert found[1].source == f"deep/archive/Train400Img/img-{names[0]}.jpg" and len(found[1].inputs) == 2
    told = capsys.readouterr().err
    assert re.search(r"left out, having no depth map: \S+img-combined1-p-2t0.jpg$", told, re.M)
    assert re.search(r"left out, having no photo: \S+depth_sph_corr-math7-p-282t0.mat$", told, re.M)
    photo, depth = check(found[1], 460, 345)
    np.testing.assert_allclose(photo.mean((0, 1)), [10, 0, 0], atol=3)
    assert (depth == 1).all()


def test_a_make3d_grid_is_spread_by_nearest_neighbour(tmp_path):
    grid = random.uniform(1, 80, (55, 305))
    grid[7, 9] = 0
    (sample,) = make3d.samples(write_make3d1(tmp_path, ["a"], "test", depth=grid))
    depth = check(sample, 460, 345)[1]
    rows, columns = ((np.arange(size) + 0.5) * of / size for size, of in ((460, 55), (345, 305)))
    expected = grid[rows.astype(int)][:, columns.astype(int)].astype(np.float32)
    np.testing.assert_array_equal(depth, np.where(expected == 0, np.nan, expected))
    assert np.isnan(depth).any()


def test_make3d2_photos_are_stood_upright(tmp_path, capsys):
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:16] = 250  # the sky
    for number in (2, 3):
        for kind in ("Images", "Depths"):
            (tmp_path / f"Dataset{number}_{kind}").mkdir()
        Image.fromarray(np.rot90(upright)).save(tmp_path / f"Dataset{number}_Images/img-manmade{number}-p-46t0.jpg")
        grid = np.full((55, 305), 4.0)
        grid[:14] = 80
        scipy.io.savemat(tmp_path / f"Dataset{number}_Depths/depth-manmade{number}-p-46t0.mat", {"depthMap": grid})
    found = list(make3d.samples(tmp_path))
    assert [sample.split for sample in found] == ["test", "train"]
    assert [sample.name for sample in found] == ["manmade2-p-46t0", "manmade3-p-46t0"]
    for sample in found:
        photo, depth = check(sample, 460, 345)
        assert photo[:100].min() > 200 and photo[130:].max() < 50
        assert (depth[:110] == 80).all() and (depth[120:] == 4).all()
    assert capsys.readouterr().err == ""


def test_a_bad_make3d_file_is_refused_by_its_name(tmp_path):
    write_make3d1(tmp_path, "abcdef")
    grids, photos = tmp_path / "Train400Depth", tmp_path / "Train400Img"

    def spoil(name, values, key="Position3DGrid"):
        scipy.io.savemat(grids / f"depth_sph_corr-{name}.mat", {key: values})

    spoil("a", np.full((55, 305, 4), -1.0))
    spoil("b", np.ones((55, 305, 3)))
    spoil("c", np.ones((55, 305)), "grid")
    whole = (grids / "depth_sph_corr-d.mat").read_bytes()
    (grids / "depth_sph_corr-d.mat").write_bytes(whole[: len(whole) // 2])
    photo = (photos / "img-e.jpg").read_bytes()
    (photos / "img-e.jpg").write_bytes(photo[: len(photo) // 2])
    *bad, good = make3d.samples(tmp_path)
    told = [failure(sample.read) for sample in bad]
    assert [words.split(": ", 1)[1] for words in told] == [
        "negative depth, down to -1 m",
        "float64 of shape (55, 305, 3) is not a laser grid",
        "has no variable Position3DGrid or depthMap",
        "the MATLAB file is cut short",
        "the image is cut short",
    ]
    assert all(words.startswith(str(tmp_path)) for words in told)
    check(good, 460, 345)


def test_make3d_without_a_pair_says_what_it_looked_for(tmp_path):
    told = failure(lambda: list(make3d.samples(tmp_path)))
    assert "train400*" in told and "dataset2*" in told and str(tmp_path) in told


def test_a_make3d_photo_found_twice_is_refused(tmp_path):
    write_make3d1(tmp_path, "a")
    write_make3d1(tmp_path / "again", "a")
    told = failure(lambda: list(make3d.samples(tmp_path)))
    assert re.search(r"img-a.jpg: \S+/img-a.jpg has the same name; remove one", told)


# ---------------------------------------------------------------------------------------------------------- folder


def write_photo(path, value=100, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def write_depth(path, metres=2.0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.full(size[::-1], metres, np.float32)
    if path.suffix == ".npy":
        np.save(path, depth)
    else:
        Image.fromarray((depth * 1000).astype(np.uint16)).save(path)
    return path


def listed(raw, **options) -> list[tuple[str, str]]:
    return [(sample.split, sample.name) for sample in folder.samples(raw, **options)]


@pytest.mark.parametrize(
    "photo, depth",
    [
        ("rgb/a.jpg", "depth/a.png"),
        ("color/1305031790.645155.JPG", "depth/1305031790.645155.png"),
        ("colour/a.png", "depths/a.npy"),
        ("images/a b.tif", "depth/a b.npy"),
        ("photo/é.webp", "depth/é.png"),
        ("a.jpg", "a_depth.png"),
        ("a.png", "a-depth.png"),
        ("a.png", "a.depth.npy"),
        ("a.png", "a.npy"),
    ],
)
def test_the_habits_of_a_folder_are_known(tmp_path, photo, depth, capsys):
    write_photo(tmp_path / photo), write_depth(tmp_path / depth)
    (tmp_path / photo).with_suffix(".txt").write_text("notes")
    (tmp_path / photo).with_name("._a.jpg").write_text("of a Mac")
    (sample,) = folder.samples(tmp_path, test_share=0)
    pixels, metres = check(sample, 6, 8)
    assert abs(int(pixels[0, 0, 0]) - 100) < 3 and (metres == 2).all()
    assert (sample.name, sample.split, sample.source) == ((tmp_path / photo).stem, "train", photo)
    assert sample.inputs == (str(tmp_path / photo), str(tmp_path / depth))
    assert capsys.readouterr().err == ""


def test_pairs_go_by_name_never_by_order_and_the_rest_is_named(tmp_path, capsys):
    for name in "abd":
        write_photo(tmp_path / f"rgb/{name}.png", ord(name))
    for name in "bcd":
        write_depth(tmp_path / f"depth/{name}.png", ord(name) / 10)
    found = list(folder.samples(tmp_path, test_share=0))
    assert [sample.name for sample in found] == ["b", "d"]
    for sample in found:
        photo, depth = sample.read()
        assert photo[0, 0, 0] == ord(sample.name) and depth[0, 0] == np.float32(ord(sample.name) / 10)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].endswith(f"left out, having no depth map: {tmp_path}/rgb/a.png")
    assert told[1].endswith(f"left out, having no photo: {tmp_path}/depth/c.png")


def test_a_depth_map_beside_the_photos_is_not_a_photo(tmp_path, capsys):
    write_photo(tmp_path / "1.jpg")
    write_depth(tmp_path / "1_depth.png"), write_depth(tmp_path / "2_depth.png")
    for pair in ("name", "nearest:0.1"):
        assert listed(tmp_path, pair=pair, test_share=0) == [("train", "1")]
        assert capsys.readouterr().err.endswith(f"left out, having no photo: {tmp_path}/2_depth.png\n")


def test_many_without_a_partner_are_reported_in_one_line(tmp_path, capsys):
    write_photo(tmp_path / "rgb/x.png"), write_depth(tmp_path / "depth/x.png")
    for number in range(25):
        write_photo(tmp_path / f"rgb/{number}.png")
    assert len(list(folder.samples(tmp_path, test_share=0))) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.count("/rgb/") == 10 and told.endswith(" and 15 more\n")


def test_patterns_say_where_photo_and_depth_are(tmp_path):
    write_photo(tmp_path / "cam/left-007-c.png"), write_depth(tmp_path / "laser/v2/007.npy")
    write_photo(tmp_path / "cam/left-007-x.jpg")
    rule = {"photos": "cam/left-{name}-[!x].*", "depths": "**/{name}.npy", "test_share": 1}
    assert listed(tmp_path, **rule) == [("test", "007")]


def test_several_fields_make_the_name(tmp_path):
    for scene in ("scene0000_00", "scene0001_00"):
        write_photo(tmp_path / scene / "color/0.jpg"), write_depth(tmp_path / "d" / f"0@{scene}.png")
    rule = {"photos": "{scene}/color/{name}.jpg", "depths": "d/{name}@{scene}.png", "test_share": 0}
    assert listed(tmp_path, **rule) == [("train", "scene0000_00-0"), ("train", "scene0001_00-0")]


def test_the_nearest_times_are_paired_each_once(tmp_path, capsys):
    for name in ("10.00", "10.03", "10.50", "11.00"):
        write_photo(tmp_path / f"rgb/{name}.png")
    for name in ("9.99", "10.02", "10.04", "11.02", "30"):
        write_depth(tmp_path / f"depth/{name}.png")
    found = list(folder.samples(tmp_path, pair="nearest:0.025"))
    pairs = [(sample.name, sample.inputs[1].removeprefix(f"{tmp_path}/depth/")) for sample in found]
    assert pairs == [("10.00", "9.99.png"), ("10.03", "10.02.png"), ("11.00", "11.02.png")]
    told = capsys.readouterr().err
    assert "rgb/10.50.png" in told and "depth/10.04.png" in told and "depth/30.png" in told
    write_photo(tmp_path / "rgb/nan.png")
    assert "'nan' is no number" in failure(lambda: list(folder.samples(tmp_path, pair="nearest:0.025")))


def test_the_closest_pair_is_taken_first(tmp_path):
    for name in ("1.00", "1.02"):
        write_photo(tmp_path / f"rgb/{name}.png")
    write_depth(tmp_path / "depth/1.03.png")
    assert [sample.name for sample in folder.samples(tmp_path, pair="nearest:0.1")] == ["1.02"]


def test_train_and_test_folders_give_the_split(tmp_path):
    for top, name in (("train", "a"), ("train", "b"), ("test", "a"), ("other", "x")):
        write_photo(tmp_path / top / f"rgb/{name}.png"), write_depth(tmp_path / top / f"depth/{name}.png")
    assert listed(tmp_path, test_share=1) == [("train", "a"), ("train", "b"), ("test", "a")]
    assert listed(tmp_path / "train", test_share=1) == [("test", "a"), ("test", "b")]


@pytest.mark.parametrize(
    "folders, options, groups",
    [
        ({"rgb": ("a", "b", "c")}, {}, {"rgb 1": "a", "rgb 2": "b", "rgb 3": "c"}),
        (  # frame-10 follows frame-9
            {"rgb": [f"f-{number}" for number in range(21)]},
            {},
            {"rgb 1": "f-0 f-1 f-2", "rgb 2": "f-3 f-4", "rgb 5": "f-9 f-10", "rgb 10": "f-19 f-20"},
        ),
        (
            {"rgb": ["9.5", "10.25", "10.3", *(f"{number}.125" for number in range(11, 28))]},
            {"pair": "nearest:0.01"},
            {"rgb 1": "9.5 10.25", "rgb 2": "10.3 11.125", "rgb 10": "26.125 27.125"},
        ),
        (  # a tenth and less stays together; the other split counts for itself
            {"train/a/rgb": "12", "train/b/rgb": [str(number) for number in range(3, 21)], "test/a/rgb": "12"},
            {"photos": "{place}/rgb/{name}.png", "depths": "{place}/depth/{name}.png"},
            {"train/a/rgb": "a-1 a-2", "train/b/rgb 1": "b-3 b-4", "train/b/rgb 9": "b-19 b-20",
             "test/a/rgb 1": "a-1", "test/a/rgb 2": "a-2"},
        ),
    ],
)  # fmt: skip
def test_photos_of_one_place_are_a_group(tmp_path, folders, options, groups):
    for place, names in folders.items():
        for name in names:
            photo = write_photo(tmp_path / place / f"{name}.png")
            write_depth(photo.parent.with_name("depth") / photo.name)
    found = {}
    for sample in folder.samples(tmp_path, test_share=0, **options):
        found.setdefault(sample.group, set()).add(sample.name)
    assert {group: set(names.split()) for group, names in groups.items()}.items() <= found.items()
    assert sum(map(len, found.values())) == sum(map(len, folders.values()))


def test_a_split_without_pairs_stops_before_the_first_sample(tmp_path):
    write_photo(tmp_path / "train/rgb/a.png"), write_depth(tmp_path / "train/depth/a.png")
    write_photo(tmp_path / "test/rgb/a.png")
    told = failure(lambda: next(folder.samples(tmp_path)))
    assert told.startswith(f"{tmp_path}/test: no photo with a depth map")


def test_the_test_share_is_drawn_by_name_alone(tmp_path):
    for number in range(60):
        write_photo(tmp_path / f"rgb/{number}.png"), write_depth(tmp_path / f"depth/{number}.png")
    before = dict(map(reversed, listed(tmp_path, test_share=0.3)))
    assert [name for name in sorted(before, key=int) if before[name] == "test"][:5] == ["4", "8", "9", "10", "13"]
    write_photo(tmp_path / "rgb/0000.png"), write_depth(tmp_path / "depth/0000.png")
    after = dict(map(reversed, listed(tmp_path, test_share=0.3)))
    assert before.items() < after.items()
    assert set(dict(listed(tmp_path, test_share=0))) == {"train"}


def test_a_split_without_test_photos_is_reported(tmp_path, capsys):
    write_photo(tmp_path / "rgb/a.png"), write_depth(tmp_path / "depth/a.png")
    assert listed(tmp_path, test_share=1e-9) == [("train", "a")]
    assert "none of 1 photos fell to testing: raise --test-share" in capsys.readouterr().err


def test_a_depth_map_of_another_size_is_refused(tmp_path):
    photo = write_photo(tmp_path / "rgb/a.png", size=(16, 12))
    depth = write_depth(tmp_path / "depth/a.png", size=(8, 6))
    (sample,) = folder.samples(tmp_path)
    hint = "(--layout scannet resizes photos to their depth maps)"
    assert failure(sample.read) == f"{depth}: 8×6 pixels, but its photo {photo} has 16×12 {hint}"


def test_the_scale_is_given_on(tmp_path):
    write_photo(tmp_path / "rgb/a.png"), write_depth(tmp_path / "depth/a.png", 10)
    (sample,) = folder.samples(tmp_path, scale=1 / 5000)
    assert sample.read()[1][0, 0] == 2


def test_written_depth_is_a_sample_of_its_own_scale(tmp_path):
    write_photo(tmp_path / "a.png")
    images.write_depth_png(tmp_path / "a_depth.png", np.full((6, 8), 80.0), 0.00125)
    (sample,) = folder.samples(tmp_path)
    assert sample.read()[1][0, 0] == 80


@pytest.mark.parametrize(
    "options, words",
    [
        ({"photos": "rgb/{name}.png"}, "go together"),
        ({"photos": "rgb/*.png", "depths": "depth/*.png"}, "need the same {name}"),
        ({"photos": "{a}/{name}.png", "depths": "depth/{name}.png"}, "need the same {name}"),
        ({"photos": "/rgb/{name}.png", "depths": "depth/{name}.png"}, "is relative to the folder"),
        ({"photos": "rgb/{name}.png", "depths": "../depth/{name}.png"}, "is relative to the folder"),
        ({"photos": "rgb/{name}[z-a].png", "depths": "depth/{name}.png"}, "is no pattern"),
        ({"photos": "rgb**/{name}.png", "depths": "depth/{name}.png"}, "is no pattern"),
        ({"pair": "order"}, "`name` or `nearest:TOLERANCE`"),
        ({"pair": "nearest"}, "`name` or `nearest:TOLERANCE`"),
        ({"pair": "nearest:-1"}, "`name` or `nearest:TOLERANCE`"),
        ({"pair": "nearest:x"}, "`name` or `nearest:TOLERANCE`"),
        ({"pair": "nearest:1", "photos": "{a}/{name}.png", "depths": "d/{a}/{name}.png"}, "the one field {name}"),
        ({"scale": 0.0}, "--scale takes metres a unit, not 0"),
        ({"scale": float("inf")}, "--scale takes metres a unit, not inf"),
        ({"depth_range": (3.0, 1.0)}, "--depth-range takes MIN,MAX in metres, 0 or more and MAX beyond MIN"),
        ({"test_share": 1.5}, "a share from 0 to 1"),
        ({"test_share": float("nan")}, "a share from 0 to 1"),
    ],
)
def test_invalid_rules_are_wrong_usage(tmp_path, options, words):
    write_photo(tmp_path / "rgb/a.png"), write_depth(tmp_path / "depth/a.png")
    assert words in failure(lambda: list(folder.samples(tmp_path, **options)), tool.UsageError)


def test_a_folder_without_pairs_says_what_was_looked_for(tmp_path):
    assert failure(lambda: list(folder.samples(tmp_path / "no"))) == f"{tmp_path}/no: no such folder"
    told = failure(lambda: list(folder.samples(tmp_path)))
    assert told.startswith(f"{tmp_path}: no photo with a depth map: looked for photos in rgb, color")
    assert "--photos and --depths" in told
    write_photo(tmp_path / "rgb/1.00.png"), write_depth(tmp_path / "depth/1.01.png")
    told = failure(lambda: list(folder.samples(tmp_path)))
    alone = "1 photos and 1 depth maps, but no two go together"
    assert told.endswith(f"{alone} by name (by time: --pair nearest:0.02)")
    assert failure(lambda: list(folder.samples(tmp_path, pair="nearest:0.005"))).endswith(f"{alone} within 0.005")
    rule = {"photos": "rgb/{name}.jpg", "depths": "depth/{name}.png"}
    told = failure(lambda: list(folder.samples(tmp_path, **rule)))
    assert told.endswith("looked for rgb/{name}.jpg and depth/{name}.png")


def test_two_photos_of_one_name_are_refused(tmp_path):
    write_photo(tmp_path / "rgb/a.png"), write_photo(tmp_path / "rgb/a.jpg"), write_depth(tmp_path / "depth/a.png")
    told = failure(lambda: list(folder.samples(tmp_path)))
    both = f"{tmp_path}/rgb/a.png: there is another 'a', {tmp_path}/rgb/a.jpg"
    assert told == f"{both}: say which with --photos, --depths"
    assert len(list(folder.samples(tmp_path, photos="rgb/{name}.jpg", depths="depth/{name}.png"))) == 1
