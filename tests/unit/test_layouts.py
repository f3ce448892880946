"""Own folders laid out as those of TUM, ScanNet, KITTI and NYU: pairs, splits, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from layouts import write, write_kitti, write_nyu, write_scannet, write_sync, write_tum
from PIL import Image

from depthfield import preparation, tool
from depthfield.samples import layouts
from depthfield.samples.doubts import of_depth


def found(raw: Path, layout: str, **options) -> list:
    return list(layouts.samples(raw, layout, **options))


def failure(raw: Path, layout: str, kind=tool.Failure, **options) -> str:
    with pytest.raises(kind) as caught:
        for sample in found(raw, layout, **options):
            sample.read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def doubts(samples: list) -> list[str]:
    outcomes = [preparation.Outcome(Path(one.name), one.source, doubts=one.doubts()) for one in samples]
    return list(preparation.doubtful(outcomes))


# ------------------------------------------------------------------------------------------------------------- tum


def test_tum_pairs_the_nearest_times_of_its_lists_in_whatever_order(tmp_path, capsys):
    write_tum(tmp_path, "10.50 10.00 10.10", "10.09 10.515 10.03")
    samples = found(tmp_path, "tum", test_share=0)
    pairs = [(one.name, *(Path(path).name for path in one.inputs)) for one in samples]
    assert pairs == [("10.10", "10.10.png", "10.09.png"), ("10.50", "10.50.png", "10.515.png")]
    photo, depth = samples[0].read()
    assert photo.shape == (6, 8, 3) and depth.dtype == np.float32 and (depth == 2).all()  # 10000 units of 1/5000 m
    told = capsys.readouterr().err
    assert f"having no depth map: {tmp_path}/rgb/10.00.png\n" in told
    assert f"having no photo: {tmp_path}/depth/10.03.png\n" in told


def test_the_lists_of_tum_say_which_files_there_are(tmp_path, capsys):
    write_tum(tmp_path, "1.0 2.0 3.0", "1.0 2.0 3.0")
    (tmp_path / "rgb.txt").write_text("1.0,rgb/2.0.png\n3.0\trgb/3.0.png extra\n\n4.0 rgb/none.png\n")
    samples = found(tmp_path, "tum", test_share=0)
    assert [(one.name, one.source) for one in samples] == [("1.0", "rgb/2.0.png"), ("3.0", "rgb/3.0.png")]
    assert (
        f"{tmp_path}/rgb.txt: left out, as these files are missing: {tmp_path}/rgb/none.png" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "1.0 rgb/1.0.png\nx rgb/2.0.png\n",
            "rgb.txt: line 2 is 'x rgb/2.0.png', expected a time in seconds and a file",
        ),
        ("1.0\n", "rgb.txt: line 1 is '1.0', expected a time"),
        ("nan rgb/1.0.png\n", "expected a time in seconds and a file"),
        ("# t\n1.0 rgb/1.0.png\n1.00 rgb/2.0.png\n", "rgb.txt: line 3 has the time 1.00 of an earlier line"),
        ("9.0 rgb/1.0.png\n", "rgb.txt and depth.txt, whose times are at most 0.02 s apart"),
        ("", "no photo with a depth map in the layout tum"),
    ],
)
def test_a_list_of_tum_that_cannot_be_used_is_refused(tmp_path, text, words):
    write_tum(tmp_path, "1.0 2.0", "1.0 2.0")
    (tmp_path / "rgb.txt").write_text(text)
    assert words in failure(tmp_path, "tum")


def test_a_tum_sequence_without_its_list_of_depth_maps_is_refused(tmp_path):
    (write_tum(tmp_path, "1.0", "1.0") / "depth.txt").unlink()
    assert failure(tmp_path, "tum") == f"{tmp_path}/depth.txt: No such file or directory"


def test_of_a_single_sequence_the_last_photos_are_for_testing(tmp_path):
    times = " ".join(f"{second}.5" for second in range(8, 18))  # by name, 10.5 comes before 8.5
    write_tum(tmp_path, times, times)
    samples = found(tmp_path, "tum")
    assert [one.name for one in samples if one.split == "test"] == ["16.5", "17.5"]
    assert [one.group for one in samples][:3] == [f"{tmp_path.name} {number}" for number in (1, 2, 3)]


def test_whole_sequences_are_for_testing(tmp_path, capsys):
    for name in "abcdef":
        write_tum(tmp_path / f"fr1_{name}", "1.0 2.0", "1.0 2.0")
    samples = found(tmp_path, "tum", test_share=0.5)
    splits = {one.group.split()[0]: one.split for one in samples}
    assert {"train", "test"} == set(splits.values()) and len(splits) == 6
    assert all(one.split == splits[one.group.split()[0]] for one in samples)
    assert [one.name for one in samples][:2] == ["fr1_a-1.0", "fr1_a-2.0"]
    found(tmp_path, "tum", test_share=1e-9), found(tmp_path, "tum", test_share=1 - 1e-9)
    told = capsys.readouterr().err
    assert "none of 12 photos fell to testing: raise" in told and "all 12 photos fell to testing: lower" in told


# --------------------------------------------------------------------------------------------------------- scannet


def test_scannets_photos_are_resized_to_their_depth_maps(tmp_path):
    write_scannet(tmp_path, 1)
    (sample,) = found(tmp_path, "scannet")
    photo, depth = sample.read()
    assert photo.shape == (480, 640, 3) and depth.shape == (480, 640) and (depth == 1.5).all()
    assert (sample.name, sample.source, sample.group) == ("0", "color/0.jpg", tmp_path.name)


@pytest.mark.parametrize("size", [(968, 1296), (640, 400), (480, 640)])
def test_a_scannet_photo_of_other_proportions_is_refused(tmp_path, size):
    write_scannet(tmp_path, 1, photo=size)
    depth, photo = tmp_path / "depth/0.png", tmp_path / "color/0.jpg"
    assert failure(tmp_path, "scannet") == f"{depth}: 640×480 pixels, but its photo {photo} has {size[0]}×{size[1]}"


def test_two_scans_of_one_scannet_place_are_a_group_and_frames_follow_by_number(tmp_path, capsys):
    for scene in ("scene0000_00", "scene0000_01", "scene0001_00"):
        write_scannet(tmp_path / "scans" / scene, 11, (8, 6), (8, 6))
    (tmp_path / "scans/scene0001_00/depth/3.png").unlink()
    samples = found(tmp_path, "scannet")
    assert [one.name for one in samples][8:11] == ["scene0000_00-8", "scene0000_00-9", "scene0000_00-10"]
    splits = {one.name[:9]: one.split for one in samples}
    assert set(splits) == {"scene0000", "scene0001"} and {one.group.split()[0] for one in samples} == set(splits)
    assert all(one.split == splits[one.name[:9]] for one in samples)
    assert "having no depth map: " in (told := capsys.readouterr().err) and "scene0001_00/color/3.jpg" in told


# ----------------------------------------------------------------------------------------------------------- kitti


def test_kittis_depth_maps_lie_apart_from_its_photos_and_give_the_split(tmp_path):
    first, second = "2011_09_26_drive_0001_sync", "2011_09_28_drive_0002_sync"
    write_kitti(tmp_path / "2011_09_26", tmp_path / "train", first)
    write_kitti(tmp_path / "2011_09_28", tmp_path / "val", second)
    write(tmp_path / "2011_09_26" / first / "image_02/data/0000000000.png")  # the first five have no depth map
    write(tmp_path / "2011_09_26" / first / "image_03/data/0000000005.png")
    write(tmp_path / "train" / first / "proj_depth/velodyne_raw/image_02/0000000005.png", 9)
    samples = found(tmp_path, "kitti", test_share=1)
    assert [(one.name, one.split) for one in samples] == [
        (f"{first}-0000000005", "train"), (f"{first}-0000000006", "train"),
        (f"{second}-0000000005", "test"), (f"{second}-0000000006", "test"),
    ]  # fmt: skip
    assert samples[0].group.startswith(first) and (samples[0].read()[1] == 14).all()


def test_kittis_sparse_depth_is_nan_where_there_is_none(tmp_path):
    write_kitti(tmp_path, tmp_path, "drive", frames=(5,))
    sparse = np.zeros((6, 8), np.uint16)
    sparse[3, 4] = 2560
    Image.fromarray(sparse).save(tmp_path / "drive/proj_depth/groundtruth/image_02/0000000005.png")
    (sample,) = found(tmp_path, "kitti")
    depth = sample.read()[1]
    assert depth[3, 4] == 10 and np.isnan(depth).sum() == 47


# ------------------------------------------------------------------------------------------------------------- nyu


def test_nyus_frames_of_sync_are_for_training_and_its_official_ones_for_testing(tmp_path):
    write_sync(tmp_path / "sync/basement_0001a"), write_sync(tmp_path / "sync/basement_0001b")
    write_sync(tmp_path / "official_splits/test/bathroom", (45,))
    samples = found(tmp_path, "nyu")
    assert [(one.name, one.split) for one in samples] == [
        ("basement_0001a-00000", "train"), ("basement_0001a-00001", "train"), ("basement_0001b-00000", "train"),
        ("basement_0001b-00001", "train"), ("bathroom-00045", "test"),
    ]  # fmt: skip
    assert {one.group.split()[0] for one in samples} == {"basement_0001", "bathroom"}
    assert (samples[0].read()[1] == 2.5).all()


def test_the_labelled_part_of_nyu_is_read_as_such(tmp_path):
    write_nyu(tmp_path)
    assert len(list(preparation.reader(tmp_path, None, {"layout": "nyu"})(tmp_path))) == 5
    with pytest.raises(tool.UsageError, match="read as nyu, which has no option --scale"):
        preparation.reader(tmp_path, None, {"layout": "nyu", "scale": 0.1})


def test_dumps_of_nyus_camera_are_told_from_frames(tmp_path):
    (tmp_path / "d-1294886360.208451-2996770081.pgm").touch()
    assert "NYU's toolbox makes them of the raw dumps" in failure(tmp_path, "nyu")


# ----------------------------------------------------------------------------------------------------- wrong scales


@pytest.mark.parametrize(
    ("layout", "units", "scale", "median"),
    [
        ("tum", 1800, None, "0.36"),  # millimetres
        ("scannet", 9000, None, "9"),  # TUM's unit
        ("nyu", 700, 0.0002, "0.14"),
        ("kitti", 256 * 14, 0.001, "3.58"),
        ("kitti", 14000, None, "54.7"),  # millimetres
    ],
)
def test_a_wrong_scale_shows_by_an_unusual_depth(tmp_path, layout, units, scale, median):
    write_tum(tmp_path / "tum", "1.0 2.0", "1.0 2.0", units)
    write_scannet(tmp_path / "scannet", 2, (8, 6), (8, 6), units)
    write_kitti(tmp_path / "kitti", tmp_path / "kitti", "drive", units=units)
    write_sync(tmp_path / "nyu/office_0001", units=units)
    samples = found(tmp_path / layout, layout, scale=scale)
    (told,) = doubts(samples)
    assert told.startswith(f"the median depth of 2 photos is {median} m, usual for this layout is ")
    assert told.endswith(" m: is the scale right? (--scale METRES)")


def test_without_a_layout_too_a_depth_that_no_camera_measures_is_doubted(tmp_path):
    depth = tmp_path / "depth.png"
    Image.fromarray(np.full((4, 4), 7000, np.uint16)).save(depth)

    def told(scale: float) -> list[str]:
        seen = of_depth(depth, scale, None, None)
        return list(preparation.doubtful([preparation.Outcome(depth, "photo", doubts=seen)]))

    scales = "--scale is metres per unit, such as 0.0002"
    assert told(5000.0) == [f"the median depth of 1 photos is 3.5e+07 m: {scales}"]
    assert told(1e-5) == [f"the median depth of 1 photos is 0.07 m: {scales}"] and told(0.001) == []


def test_a_scale_that_fits_leaves_no_doubt_and_is_recorded(tmp_path):
    samples = found(write_tum(tmp_path, "1.0 2.0", "1.0 2.0", 1800), "tum", scale=0.001)
    assert doubts(samples) == [] and samples[0].read()[1][0, 0] == np.float32(1.8)
    assert samples[0].reading != found(tmp_path, "tum")[0].reading


def test_a_tum_sequence_read_in_millimetres_is_told(tmp_path, capsys):
    write_tum(tmp_path, "1.0 2.0", "1.0 2.0")
    list(preparation.reader(tmp_path, None, {})(tmp_path))
    assert "as TUM's sequences, whose unit is 0.0002 m: see --layout tum" in capsys.readouterr().err
    list(preparation.reader(tmp_path, None, {"scale": 0.0002})(tmp_path))
    assert "--layout tum" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        ("sun", {}, "--layout is one of tum, scannet, kitti, nyu, not 'sun'"),
        ("tum", {"pair": "name"}, "--layout tum says which files belong together; leave out --pair"),
        ("nyu", {"photos": "a/{name}.png", "depths": "b/{name}.png"}, "leave out --depths"),
        ("tum", {"scale": 0.0}, "--scale takes metres a unit, not 0"),
        ("kitti", {"test_share": 2.0}, "a share from 0 to 1"),
    ],
)
def test_options_that_do_not_go_with_a_layout_are_wrong_usage(tmp_path, layout, options, words):
    assert words in failure(tmp_path, layout, tool.UsageError, **options)


@pytest.mark.parametrize("layout", list(layouts.LAYOUTS))
def test_a_folder_of_another_layout_says_what_was_looked_for(tmp_path, layout):
    write(tmp_path / "rgb/a.png"), write(tmp_path / "depth/a.png", 900)
    told = failure(tmp_path, layout)
    assert told.startswith(f"{tmp_path}: no photo with a depth map in the layout {layout}: looked for ")
