"""The way of the data from the shell: patches, records, prediction, scores, and what goes wrong on it."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from layouts import write_tum
from PIL import Image
from shell import PROJECT, shards

# ---- make-patches and to-tfrecord


def test_make_patches_keeps_what_is_current_and_redoes_what_is_asked_otherwise(prepared, tmp_path):
    raw, out = prepared / "rooms/raw", tmp_path / "out"
    ask = ("make-patches", "--reader", "nyu", "--out", out, "--superpixels", "grid:12", "--limit", 2, raw)
    first = run(*ask, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    paths = [out / "train/00001.npz", out / "train/00002.npz"]
    assert first.stdout.split() == [str(path) for path in paths]
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert run(*ask, cwd=tmp_path).stdout == first.stdout
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    assert run(*ask, "--similarities", "colour", cwd=tmp_path).returncode == 0
    assert [path.stat().st_mtime_ns for path in paths] != stamps
    with np.load(paths[0]) as patch:
        assert patch["similarity_names"].tolist() == ["colour"] and patch["depth_map"].dtype == np.float32
    for bounds, width in ((("--width", 48), 48), ((), 96)):
        assert run(*ask, *bounds, cwd=tmp_path).returncode == 0
        with np.load(paths[0]) as patch:
            assert patch["image"].shape[1] == width


def test_parts_of_an_array_job_make_up_the_whole(prepared, tmp_path):
    made = []
    for part in (1, 2, 3):
        done = run(
            "make-patches", "--out", tmp_path, "--part", f"{part}/3", "-j", 1, prepared / "rooms/raw", cwd=tmp_path
        )
        made += done.stdout.split()
    assert len(made) == len(set(made)) == 16 and len(list(tmp_path.glob("*/*.npz"))) == 16
    named = (tmp_path / "rooms.manifest").read_text().splitlines()
    assert sorted(str(tmp_path / place) for place in named) == sorted(made)


def test_records_hold_what_make_patches_was_asked_for_last_and_nothing_else(tmp_path):
    """What lay there of earlier calls used to be packed, too, and test photos turned up in training."""
    (tmp_path / "mine").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(tmp_path / f"mine/{number}.png")
        Image.fromarray(np.full((48, 64), 2500, np.uint16)).save(tmp_path / f"mine/{number}_depth.png")
    data = tmp_path / "data/mine"

    def packed(*options: object) -> tuple[list, list, str]:
        made = run("make-patches", "--superpixels", "grid:16", *options, "mine", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        done = run("to-tfrecord", "--shards", 1, data / "patches", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told = [json.loads(path.read_text()) for path in sorted((data / "records").glob(".*.json"))]
        names = [[path.rpartition("/")[2] for path in one["photos"]] for one in told]
        return names, done.stdout.splitlines(), done.stderr

    (test, train), _, told = packed()
    assert len(train) + len(test) == 12 and test and told == ""
    (test, train), _, told = packed("--test-share", 0.8)
    assert len(train) + len(test) == 12 and len(test) > len(train) > 0 and "no manifest" in told
    (train,), shards, told = packed("--test-share", 0, "--limit", 5)
    assert len(train) == 5 and shards == [str(data / "records/train-00000-of-00001.tfrecord")]
    assert "removed the shards of test" in told and not list((data / "records").glob("test-*"))
    (data / "patches/train" / train[0]).unlink()
    done = run("to-tfrecord", data / "patches", cwd=tmp_path)
    assert done.returncode == 1 and f"{data}/patches/train/{train[0]}: missing; run make-patches" in done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_two_sets_of_one_place_are_refused(prepared, tmp_path):
    (tmp_path / "rooms").symlink_to(prepared / "rooms/raw")
    ask = ("make-patches", "--reader", "nyu", "--out", tmp_path / "out", "--limit", 1, "-j", 1)
    assert run(*ask, "rooms", cwd=tmp_path).returncode == 0
    shutil.copytree(prepared / "rooms/raw", tmp_path / "other")
    done = run(*ask, "other", cwd=tmp_path)
    assert done.returncode == 1 and "both list train/00001.npz; give each dataset its own --out" in done.stderr
    (tmp_path / "again").mkdir()
    (tmp_path / "again/other").symlink_to(tmp_path / "other")
    done = run(*ask, "other", "again/other", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def own_folder(folder, name="a", size=(64, 48), depth=None):
    for place in ("rgb", "depth"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(pixels).resize(size).save(folder / f"rgb/{name}.png")
    units = np.full(size[::-1], 2500, np.uint16) if depth is None else depth
    Image.fromarray(units).save(folder / f"depth/{name}.png")


def test_a_folder_of_ones_own_goes_to_metric_patches(tmp_path):
    own_folder(tmp_path / "mine")
    done = run(
        "make-patches", "--scale", 0.0002, "--test-share", 0, "mine", cwd=tmp_path, DATA_DIR=str(tmp_path / "data")
    )
    assert done.returncode == 0, done.stderr
    with np.load(done.stdout.strip()) as patch:
        np.testing.assert_allclose(patch["depth"], 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (np.zeros((48, 64), np.uint16), "no measured depth"),
        (np.full((24, 32), 900, np.uint16), "64"),
        (np.full((48, 64), 90, np.uint8), "8 bits"),
    ],
)
def test_unusable_depth_is_named_with_its_reason_and_the_rest_is_done(tmp_path, depth, said):
    own_folder(tmp_path / "mine", depth=depth)
    for place in ("rgb/b.png", "depth/b.png"):
        size = (48, 64)
        Image.fromarray(np.full(size, 2000, np.uint16) if "depth" in place else np.zeros((*size, 3), np.uint8)).save(
            tmp_path / "mine" / place
        )
    done = run("make-patches", "--test-share", 0, "mine", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stdout.split()) == 1 and done.stdout.strip().endswith("b.npz")
    told = [line for line in done.stderr.splitlines() if "a.png" in line]
    assert len(told) == 1 and said in told[0]


def test_values_that_mean_no_measurement_are_reported_once_and_can_be_named(tmp_path):
    for name, value in (("a", 65535), ("b", 2500), ("c", 65535), ("d", 60000), ("e", 60000)):
        depth = np.full((48, 64), 2500, np.uint16)
        depth[0, :16] = value
        own_folder(tmp_path / "mine", name, depth=depth)

    def made(*options: str) -> tuple[list, list]:
        done = run("make-patches", "--superpixels", "grid:16", "--test-share", 0, *options, "mine", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        maps = [np.load(tmp_path / path)["depth_map"] for path in done.stdout.split()]
        return [np.nanmax(depth) for depth in maps], done.stderr.splitlines()

    farthest, told = made()
    assert farthest == pytest.approx([2.5, 2.5, 2.5, 60, 60])
    assert told == [
        "make-patches: 65535 counts as no measurement: 0.21 % of all pixels, in 2 of 5 photos; --missing VALUE "
        "names another value",
        "make-patches: rgb/d.png: the largest depths, from 60 m, are far from all others, up to 2.5 m (also in 1 "
        "more photos); if they mean no measurement, use --missing VALUE or --depth-range MIN,MAX",
    ]
    assert made("--depth-range", "0,50") == (pytest.approx([2.5] * 5), told[:1])  # not those made before
    farthest, told = made("--missing", "60000")
    assert farthest == pytest.approx([65.535, 2.5, 65.535, 2.5, 2.5]) and len(told) == 1 and "rgb/a.png" in told[0]
    assert made("--missing", "60000")[1] == []


def test_a_folder_laid_out_as_a_datasets_is_read_by_its_name_and_a_wrong_scale_is_told(tmp_path):
    write_tum(tmp_path / "fr1/desk", "2.50 1.25 1.5", "1.26 2.51 9.0", units=1800, size=(64, 48))
    write_tum(tmp_path / "fr1/xyz", "7.5", "7.5", units=1800, size=(64, 32))

    def made(*options: object) -> tuple[int, list, list]:
        done = run("make-patches", "--superpixels", "grid:16", "--test-share", 0, *options, "fr1", cwd=tmp_path)
        return done.returncode, [Path(line).stem for line in done.stdout.splitlines()], done.stderr.splitlines()

    status, names, told = made("--layout", "tum")
    assert (status, names) == (0, ["desk-1.25", "desk-2.50", "xyz-7.5"])
    assert told[:2] == [
        "make-patches: left out, having no depth map: fr1/desk/rgb/1.5.png",
        "make-patches: left out, having no photo: fr1/desk/depth/9.0.png",
    ]
    doubt = "the median depth of 3 photos is 0.36 m, usual for this layout is 0.6 to 4.5 m: is the scale right?"
    assert told[2:] == [f"make-patches: {doubt} (--scale METRES)"]
    status, names, told = made("--layout", "tum", "--scale", 0.001)
    assert status == 0 and len(names) == 3 and len(told) == 2
    with np.load(tmp_path / "data/fr1/patches/train/desk-1.25.npz") as patch:
        assert patch["group"] == "desk 1" and patch["depth"][0] == np.float32(1.8)
    assert made("--layout", "tum", "--pair", "name")[::2] == (
        2, ["make-patches: --layout tum says which files belong together; leave out --pair"]
    )  # fmt: skip


def test_a_truncated_mat_and_a_photo_too_small_are_named(tmp_path, prepared):
    raw = tmp_path / "cut/raw"
    shutil.copytree(prepared / "rooms/raw", raw)
    mat = raw / "nyu_depth_v2_labeled.mat"
    mat.write_bytes(mat.read_bytes()[:3000])
    done = run("make-patches", "--reader", "nyu", raw, cwd=tmp_path)
    assert done.returncode == 1 and "nyu_depth_v2_labeled.mat" in done.stderr and "Traceback" not in done.stderr
    own_folder(tmp_path / "tiny", size=(16, 8))
    done = run("make-patches", "--test-share", 0, "tiny", cwd=tmp_path)
    assert done.returncode == 1 and "too few for superpixels" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "status", "said"),
    [
        ("make-patches", ["--similarities", "smell", "."], 2, "no similarity 'smell'"),
        ("make-patches", ["--superpixels", "grid:", "."], 2, "superpixels are"),
        ("make-patches", ["--part", "4/3", "."], 2, "--part takes"),
        ("make-patches", ["--jobs", "none", "."], 2, "--jobs takes a whole number"),
        ("make-patches", ["--depth-range", "3", "."], 2, "--depth-range takes MIN,MAX in metres, not '3'"),
        ("make-patches", ["--missing", "9", "--reader", "nyu", "."], 2, "read as nyu, which has no option --missing"),
        ("make-patches", ["--layout", "sun", "."], 2, "--layout is one of tum, scannet, kitti, nyu, not 'sun'"),
        ("make-patches", ["--layout", "nyu", "--reader", "nyu", "."], 2, "--layout and --reader: give one of them"),
        ("make-patches", ["nowhere"], 1, "nowhere: no such folder"),
        ("make-patches", ["--reader", "kitti", "."], 2, "no reader 'kitti'"),
        ("to-tfrecord", ["nothing.npz"], 1, "nothing.npz: no such file"),
        ("to-tfrecord", ["."], 1, "no manifest lists its patch files; run make-patches"),
        ("to-tfrecord", [], 1, "no patch files"),
        ("train-depth", ["--recipe", "huge", "--run", "r", "x.tfrecord"], 2, "no recipe 'huge'"),
        ("train-depth", ["--recipe", "small", "--run", "r", "--set", "speed=9", "x"], 2, "unknown setting speed"),
        ("train-depth", ["--recipe", "small", "--run", "r", "x.tfrecord"], 1, "x.tfrecord: no such file"),
        ("train-depth", ["--recipe", "small"], 2, "see --help"),
        ("score-depth", ["--run", "nothing", "--save", "nothing/scores.json", "x"], 1, "nothing: no such run\n"),
        ("score-depth", ["nothing", "nowhere"], 1, "nothing: no such folder"),
        ("split-resources", ["--ps"], 2, "split-resources: --ps needs a value; see --help\n"),
        ("make-patches", ["--force=1", "."], 2, "make-patches: --force takes no value; see --help\n"),
    ],
)
def test_what_cannot_be_done_is_reported_in_one_line_and_a_status(tmp_path, name, arguments, status, said):
    done = run(name, *arguments, cwd=tmp_path, stdin="")
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{name}: ") and done.stdout == "" and not (tmp_path / "nothing").exists()


# ---- make


def test_make_shows_people_no_raw_make():
    told = subprocess.run(["make", "-C", PROJECT, "help"], capture_output=True, text=True, check=True).stdout
    assert "$(" not in told and "old name: MODEL [small]\n" in told and "in RUN_DIR [DATASET-RECIPE]\n" in told
    words = ["make", "-n", "-C", PROJECT, "preprocess", "rooms"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "printf '%s\\n' ./data/rooms/raw | bin/make-patches > /dev/null\n" in told


def test_settings_given_to_make_do_not_reach_the_tests():
    given = {"RUNID": "mine", "SET": "seed=1", "PE": "orte", "WIDTH": "9"}
    words = [f"{name}={value}" for name, value in given.items()]
    show = "--eval=show: ; @$(without_settings) env"
    done = subprocess.run(
        ["make", "-s", "-C", PROJECT, show, "show", *words],
        env=os.environ | {"GRID": "no", "DATASET": "nyu"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    left = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert left["GRID"] == "no" and not left.keys() & {*given, "DATASET", "DATA_DIR", "MAKEFLAGS"}


@pytest.mark.parametrize("words", ["TO|DO: faster", "NOTE| FROM THE LEAD", "remove it when| read", ""])
def test_lint_finds_working_notes(tmp_path, words):
    note = words.replace("|", "")  # so that lint does not find it here
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "depth.py").write_text(f"x = 1  # metres\n# {note}\n")
    subprocess.run("git init -q && git add .", shell=True, cwd=tmp_path, check=True)
    done = subprocess.run(["make", "-s", "working-notes"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == ((2, f"depth.py:2:# {note}\n") if note else (0, ""))


def test_the_demo_has_rooms_of_its_own_and_convert_packs_folders():
    def told(*goals: str) -> str:
        words = ["make", "-n", "-C", PROJECT, "DATA_DIR=data", *goals]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    demo = told("demo")
    assert demo.count("demo-rooms") == 3 and "data/rooms" not in demo and "DATASET=rooms" not in demo
    assert "bin/to-tfrecord data/nyu/patches data/mine/patches" in told("convert", "nyu", "mine")


def test_make_predict_leaves_the_run_to_predict_depth_unless_a_setting_names_one():
    def told(*words: str) -> str:
        done = subprocess.run(
            ["make", "-n", "-C", PROJECT, "-o", "install", "predict", "PHOTOS=a.jpg", *words],
            env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return next(line for line in done.stdout.splitlines() if line.startswith("bin/"))

    assert told() == "bin/predict-depth --picture --uncertainty a.jpg"
    for word, folder in (("RUN=a/b", "a/b"), ("RUNID=b", "./runs/b"), ("DATASET=nyu", "./runs/nyu-small")):
        where = f"--run {folder} --out {folder}/predictions"
        assert told(word) == f"bin/predict-depth {where} --picture --uncertainty a.jpg"


# ---- every command


@pytest.mark.parametrize("name", sorted(path.name for path in (PROJECT / "bin").iterdir()))
def test_every_command_has_its_help_run_bit_and_place_in_the_readme(tmp_path, name):
    link = tmp_path / "link"
    link.symlink_to(PROJECT / "bin" / name)
    done = subprocess.run([link, "--help"], cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith(f"{name}: ") and done.stderr == ""
    assert "Usage:" in done.stdout and "Exit status:" in done.stdout
    first = done.stdout.splitlines()[0].partition(": ")[2].rstrip(".")
    assert f"| `{name}` | {first}" in (PROJECT / "README.md").read_text()


def test_a_closed_pipe_is_not_an_error(prepared, tmp_path):
    command = f"set -o pipefail; {PROJECT}/bin/make-patches --out {tmp_path} {prepared}/rooms/raw | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(prepared, tmp_path):
    command = f"ulimit -f 8; {PROJECT}/bin/make-patches -j 1 --out {tmp_path} {prepared}/rooms/raw"
    done = subprocess.run(["bash", "-c", f"trap '' XFSZ; {command}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["rooms.manifest"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_make_patches_leaves_whole_files_and_no_process(prepared, tmp_path, number):
    command = [
        PROJECT / "bin/make-patches",
        "-j",
        "2",
        "--superpixels",
        "20000",
        "--out",
        tmp_path,
        prepared / "rooms/raw",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline()
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (-number if number == signal.SIGINT else 128 + number, 0) and "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    for path in tmp_path.rglob("[!.]*.npz"):
        with np.load(path) as patch:
            assert patch["depth_map"].shape == (72, 96)


# ---- prediction and scores


def test_photos_of_any_kind_get_depth_uncertainty_and_pictures(prepared, trained, tmp_path):
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((200, 150))
    (tmp_path / "photos").mkdir()
    for mode, name in (("L", "grey.png"), ("RGBA", "clear.png"), ("CMYK", "print.jpg"), ("RGB", "plain.jpg")):
        pixels.convert(mode).save(tmp_path / "photos" / name)
    turned = Image.Exif()
    turned[274] = 6
    pixels.save(tmp_path / "photos/turned.jpg", exif=turned)
    (tmp_path / "photos/cut.jpg").write_bytes((tmp_path / "photos/plain.jpg").read_bytes()[:900])
    pixels.resize((3, 2)).save(tmp_path / "photos/tiny.png")
    done = run("predict-depth", "--run", trained, "--npy", "--picture", "--uncertainty", "photos", cwd=tmp_path)
    assert done.returncode == 1
    which, *told = done.stderr.splitlines()
    (records,) = {path.parent for path in shards(prepared, "test")}
    assert "best.npz (step 16; rel " in which
    assert f" on held-out photos of {records.parent}; other places and cameras can be far worse)" in which
    assert len(told) == 2 and "cut.jpg" in told[0] and "tiny.png" in told[1]
    assert sorted(done.stdout.split()) == [
        f"depths/depth/{n}.png" for n in ("clear", "grey", "plain", "print", "turned")
    ]
    for name in ("grey", "clear", "print", "plain", "turned"):
        size = (150, 200) if name == "turned" else (200, 150)
        depth = np.load(tmp_path / f"depths/npy/{name}.npy")
        assert depth.shape == size[::-1] and depth.dtype == np.float32 and (depth > 0).all()
        with Image.open(tmp_path / f"depths/depth/{name}.png") as png:
            assert png.text["depth-scale"] == "0.001" and png.size == size
            np.testing.assert_allclose(np.asarray(png) * 0.001, depth, atol=6e-4)
        assert (np.load(tmp_path / f"depths/uncertainty/{name}.npy") > 0).all()
        with Image.open(tmp_path / f"depths/picture/{name}.png") as picture:
            assert picture.mode == "RGB" and picture.height == size[1] and picture.width > size[0]  # a scale bar


def test_scores_of_a_run_stand_beside_the_mean_depths(prepared, trained, tmp_path):
    done = run(
        "score-depth",
        "--run",
        trained,
        "--json",
        "--pictures",
        "p",
        "--pictures-limit",
        2,
        *shards(prepared, "test"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert set(scores) == {"field", "mean depth"} and scores["field"]["images"] == 4
    assert scores["field"]["pixels"] == 4 * 72 * 96 and set(scores["field"]) >= {"pooled over pixels", "mean of images"}
    *pictures, calibration = sorted((tmp_path / "p").iterdir())
    assert calibration.name == "calibration.png" and Image.open(calibration).size == (640, 640)
    assert len(pictures) == 2 and Image.open(pictures[0]).size == (4 * 96 + 8 + 99, 72)
    table = run("score-depth", "--run", trained, stdin="\n".join(map(str, shards(prepared, "test"))), cwd=tmp_path)
    assert (
        "field, pooled over pixels" in table.stdout
        and f"{scores['field']['mean of images']['rel']:.3f}" in table.stdout
    )


def test_depth_maps_from_elsewhere_are_scored_by_name(tmp_path):
    for folder in ("predicted", "truth"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full((10, 10), 1100, np.uint16)).save(tmp_path / "predicted/a.png")
    np.save(tmp_path / "truth/a.npy", np.full((20, 20), 1.0, np.float32))
    np.save(tmp_path / "truth/b.npy", np.full((20, 20), 1.0, np.float32))
    done = run("score-depth", "--json", "predicted", "truth", cwd=tmp_path)
    assert done.returncode == 1 and "b.npy: no prediction" in done.stderr
    assert json.loads(done.stdout)["prediction"]["pooled over pixels"]["rel"] == pytest.approx(0.1, rel=1e-4)


def folders_of_maps(folder, predicted: dict, truth: dict) -> None:
    for place, maps in (("predicted", predicted), ("truth", truth)):
        (folder / place).mkdir()
        for name, depth in maps.items():
            np.save(folder / place / f"{name}.npy", depth.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((64, 48), "it has 48×64 pixels, but its truth 64×48: the aspect ratios differ"),
        ((480, 672), "it has 672×480 pixels, but its truth 64×48: the aspect ratios differ"),
        ((1, 1), "it has 1×1 pixels, but its truth 64×48: too small to resize"),
        ((12, 18), "it has 18×12 pixels, but its truth 64×48: the aspect ratios differ"),
        ((17, 23), None),  # 22.7 pixels rounded
        ((480, 641), None),  # the truth's 63.9 rounded
    ],
)
def test_a_prediction_is_resized_in_proportion_and_never_stretched(tmp_path, shape, said):
    truth = np.ones((48, 64))
    folders_of_maps(tmp_path, {"a": 1.1 * np.ones(shape), "b": 1.1 * truth}, {"a": truth, "b": truth})
    done = run("score-depth", "--json", "predicted", "truth", cwd=tmp_path)
    scored = json.loads(done.stdout)["prediction"]
    told = f"score-depth: predicted/a.npy: {said}\n" if said else ""
    assert (done.returncode, done.stderr, scored["images"]) == (bool(said), told, 1 if said else 2)


@pytest.mark.parametrize("folder", ["predicted", "truth"])
def test_two_depth_maps_of_one_photo_are_an_error(tmp_path, folder):
    folders_of_maps(tmp_path, {"a": np.ones((20, 20))}, {"a": np.ones((20, 20))})
    Image.fromarray(np.full((20, 20), 1100, np.uint16)).save(tmp_path / folder / "a.png")
    done = run("score-depth", "predicted", "truth", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"score-depth: {folder}/a.png: a.npy is for the same photo")
    assert done.stderr.count("\n") == 1


def test_what_has_no_prediction_is_reported(tmp_path):
    hole, left, right = (np.ones((400, 600)) for _ in range(3))
    hole[7, 7] = left[:, :300] = right[:, 300:] = np.nan
    folders_of_maps(tmp_path, {"a": hole, "b": left}, {"a": np.ones((400, 600)), "b": right})
    done = run("score-depth", "predicted", "truth", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.endswith(
        "predicted/b.npy: no prediction for any of the 120000 measured pixels\n"
    )
    assert "\nprediction, scored: 99.9% of the measured pixels, 239999 of 240000\n" in done.stdout


@pytest.mark.parametrize(
    ("save", "said"), [(".", ".: a folder; name a file"), ("file/kept.json", "file/kept.json: cannot be written")]
)
def test_where_scores_cannot_be_saved_is_reported_before_anything_is_read(tmp_path, save, said):
    (tmp_path / "file").touch()
    done = run("score-depth", "--save", save, "nothing", "nowhere", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"score-depth: {said}") and done.stderr.count("\n") == 1
