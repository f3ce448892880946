"""The protocols from the shell, on small datasets in NYU's and Make3D's layouts, and make reproduce to its table."""

import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
from conftest import run
from layouts import write_make3d1, write_nyu
from PIL import Image
from shell import PROJECT, SMALL

from depthfield.samples import images, nyu

pytestmark = pytest.mark.xdist_group("protocols")  # its fixtures are made once

TRAIN, TEST = (1, 4), (2, 3, 5)


def scenes(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos with coarse patches of colour, and depth that grows from 2 m at the left by a metre a photo."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    photos = coarse.repeat(8, axis=1).repeat(8, axis=2)
    depths = np.linspace(2, 4, width) + np.arange(count)[:, None, None] + np.zeros((height, 1))
    return photos, depths.astype(np.float32)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Five frames of NYU's size; the last has no raw depth, the others none in their upper half."""
    raw = tmp_path_factory.mktemp("nyu")
    photos, depths = scenes(5, 480, 640)
    measured = depths.copy()
    measured[:, :240], measured[4] = 0, 0
    measured[1, 300, 300] = 10
    return write_nyu(raw, photos, depths, TRAIN, TEST, measured)


def predictions(folder, frames, factor, names=TEST):
    """Depth maps of test photos, `factor` times as deep: the first as PNG and half the size, the others as .npy."""
    folder.mkdir()
    with h5py.File(frames / nyu.FRAMES) as file:
        for number in names:
            depth = np.full((480, 640), factor, np.float32) * file["depths"][number - 1].T
            if number == names[0]:
                half = np.asarray(Image.fromarray(depth).resize((320, 240), Image.Resampling.BILINEAR))
                images.write_depth_png(folder / f"{number:05d}.png", half, 0.0005)
            else:
                np.save(folder / f"{number:05d}.npy", depth)
    return folder


def test_depth_maps_from_elsewhere_by_nyus_two_protocols(frames, tmp_path):
    maps = predictions(tmp_path / "maps", frames, 1.1)
    ask = ("score-depth", "--json", "--save", "kept.json", "--protocol")
    done = run(*ask, "nyu", maps, frames, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "nyu has 654" in done.stderr
    (one,) = json.loads(done.stdout).values()
    assert one == json.loads((tmp_path / "kept.json").read_text())["prediction"]
    assert one["protocol"] == "nyu" and one["headline"] == "pooled over pixels"
    assert one["images"] == 3 and one["pixels"] == 3 * 480 * 640
    assert one["pooled over pixels"]["rel"] == pytest.approx(0.1, rel=1e-3)

    done = run(*ask, "nyu-eigen", maps, frames, cwd=tmp_path)
    assert done.returncode == 1 and "nyu_depth_v2_labeled.mat#5: no measured depth at all" in done.stderr
    (one,) = json.loads(done.stdout).values()
    assert one["protocol"] == "nyu-eigen" and one["headline"] == "mean of images"
    assert one["images"] == 2 and one["pixels"] == 2 * (471 - 240) * (601 - 41) - 1
    assert one["mean of images"]["rel"] == pytest.approx(0.1, rel=1e-3)


def test_a_missing_or_unusable_prediction_refuses_its_photo(frames, tmp_path):
    maps = predictions(tmp_path / "maps", frames, 1.1, names=(3, 5))
    hole = np.full((480, 640), 3, np.float32)
    hole[7, 7] = 0
    np.save(maps / "00005.npy", hole)
    done = run("score-depth", "--protocol", "nyu", "--published", maps, frames, cwd=tmp_path)
    told = done.stderr.splitlines()
    assert done.returncode == 1 and len(told) == 3
    assert f"#2: no prediction 00002.png or .npy in {maps}" in told[0]
    assert f"{maps}/00005.npy: 1 of the 307200 pixels that count have no prediction" in told[1]
    assert "nyu, prediction, pooled over pixels *" in done.stdout and "scored here: 1 of 654 photos" in done.stdout
    hole[:240] = np.nan  # where the raw depth has none
    hole[300:400, 200:520] = np.nan
    (maps / "00003.png").rename(maps / "00002.png")
    np.save(maps / "00003.npy", hole)
    done = run("score-depth", "--protocol", "nyu-eigen", maps, frames, cwd=tmp_path)
    assert done.returncode == 1 and f"{maps}/00003.npy: 32000 of the 129360 pixels that count have no" in done.stderr
    assert "scored here: 1 of 654 photos" in done.stdout
    (tmp_path / "none").mkdir()
    done = run("score-depth", "--protocol", "nyu", "none", frames, cwd=tmp_path)
    assert done.returncode == 1 and "(00002.png)" in done.stderr and done.stderr.count("\n") == 1


def test_make3d_by_its_two_protocols(tmp_path):
    grid = np.full((55, 305), 40.0)
    grid[:11] = 80  # the sky
    write_make3d1(tmp_path / "raw", ["x-p-1t0"], "test", grid)
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.full((46, 34), 4400, np.uint16)).save(tmp_path / "maps/x-p-1t0.png")
    for name, share in (("make3d-c1", 0), ("make3d-c2", 0.2)):
        done = run("score-depth", "--json", "--scale", 0.01, "--protocol", name, "maps", "raw", cwd=tmp_path)
        (one,) = json.loads(done.stdout).values()
        assert done.returncode == 0 and f"{name} has 134" in done.stderr
        assert one["pixels"] == pytest.approx((0.8 + share) * 460 * 345, rel=1e-3)
        expected = (0.1 * 0.8 + 0.45 * share) / (0.8 + share)
        assert one["mean of images"]["rel"] == pytest.approx(expected, rel=0.01)


def test_a_run_of_other_photos_is_scored_beside_the_mean_depth(frames, trained, tmp_path):
    ask = ("score-depth", "--protocol", "nyu-eigen", "--run", trained, frames)
    done = run(*ask, "--json", cwd=tmp_path)
    assert done.returncode == 1 and "#5: no measured depth" in done.stderr
    scores = json.loads(done.stdout)
    field, mean = scores["field"], scores["mean depth"]
    assert (field["steps"], field["training photos"], field["images"]) == (16, 12, 2) and mean["images"] == 2
    assert field["pixels"] == mean["pixels"] == 2 * (471 - 240) * (601 - 41) - 1
    assert 0 < field["mean of images"]["rel"] < 2
    constant = json.loads((trained / "survey.json").read_text())["mean_depth"]
    columns = np.linspace(2, 4, 640)[41:601]
    expected = np.mean([np.mean(abs(constant - columns - further) / (columns + further)) for further in (1, 2)])
    assert mean["mean of images"]["rel"] == pytest.approx(expected, rel=1e-3)
    done = run(*ask, "--published", "--limit", 1, cwd=tmp_path)
    assert done.returncode == 0 and "the paper has no scores by nyu-eigen" in done.stdout
    assert (
        "field: 16 steps on 12 photos, weights from none" in done.stdout
        and "scored here: 1 of 654 photos" in done.stdout
    )


def test_a_run_s_predictions_are_scored_as_they_are_whatever_its_recipe_clamps_to(frames, trained, tmp_path):
    again = shutil.copytree(trained, tmp_path / "run")
    recipe = (again / "recipe.toml").read_text()
    (again / "recipe.toml").write_text(recipe.replace("nearest = 0.1", "nearest = 50.0"))
    ask = ("score-depth", "--protocol", "nyu", "--json", "--limit", 1)
    scores = [json.loads(run(*ask, "--run", folder, frames, cwd=tmp_path).stdout) for folder in (trained, again)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["--protocol", "kitti", "a", "b"],
            2,
            "--protocol is one of nyu, nyu-eigen, make3d-c1, make3d-c2, not 'kitti'",
        ),
        (["--protocol", "nyu", ".", "nowhere"], 1, "nowhere: no such folder"),
        (["--protocol", "nyu", ".", "."], 1, "nyu_depth_v2_labeled.mat: missing; run fetch-dataset"),
        (["--protocol", "make3d-c1", ".", "."], 1, "no Make3D photo"),
        (["--protocol", "nyu", "--run", "nothing", "."], 1, "nothing: no such run"),
        (["--protocol", "nyu", "."], 2, "see --help"),
        (["--published", ".", "."], 2, "see --help"),
    ],
)
def test_what_cannot_be_scored_is_reported_in_one_line(tmp_path, arguments, status, said):
    done = run("score-depth", *arguments, cwd=tmp_path)
    assert done.returncode == status and said in done.stderr.splitlines()[0] and done.stdout == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["RECIPE=fscp"], "no recipe 'fscp'"),
        (["RECIPE=fcsp", "SET=los=unary"], "unknown setting los"),
        (["PROTOCOL=nyu make3d-c1"], "PROTOCOL takes some of nyu nyu-eigen for nyu, not make3d-c1"),
    ],
)
def test_make_reproduce_finds_a_mistake_before_it_downloads(tmp_path, settings, said):
    words = ["DATASET=nyu", f"DATA_DIR={tmp_path}/data", f"RUN_DIR={tmp_path}/runs", *settings]
    command = ["make", "-s", "-C", PROJECT, "-o", ".venv/installed", "reproduce", *words]
    nowhere = os.environ | {"DATASETS": str(tmp_path / "none.toml")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=nowhere)
    assert done.returncode == 2 and said in done.stderr.splitlines()[0] and not list(tmp_path.iterdir()), done.stderr


@pytest.mark.long
def test_make_reproduce_goes_from_download_to_the_table_and_continues_where_it_was(tmp_path):
    (tmp_path / "far").mkdir()
    photos, depths = scenes(8, 480, 640)
    far = write_nyu(tmp_path / "far", photos, depths, train=range(1, 7), test=(7, 8))
    lines = ["[nyu]", 'title = "stand-in"', 'holds = "8 photos"', 'licence = "free"', 'reader = "nyu"']
    for name in (nyu.FRAMES, nyu.DIVISION):
        lines += ["[[nyu.files]]", f'name = "{name}"', f'address = "{(far / name).as_uri()}"']
    (tmp_path / "catalogue.toml").write_text("\n".join(lines))
    recipe, quick = (
        (PROJECT / "lib/recipes/small.toml").read_text(),
        dict(word.split(".")[1].split("=") for word in SMALL),
    )
    for name, value in quick.items():
        recipe = "\n".join(
            f"{name} = {value}" if line.startswith(f"{name} =") else line for line in recipe.splitlines()
        )
    (tmp_path / "tiny.toml").write_text(recipe)
    words = [
        "DATASET=nyu",
        f"RECIPE={tmp_path}/tiny.toml",
        "STEPS=8",
        f"DATA_DIR={tmp_path}/data",
        f"RUN_DIR={tmp_path}/runs",
        "RUNID=nyu-tiny",  # make test exports its own
    ]

    def reproduce(*more: str) -> str:
        done = subprocess.run(
            ["make", "-s", "-C", PROJECT, "-o", ".venv/installed", "reproduce", *words, *more],
            capture_output=True, text=True, timeout=200, env=os.environ | {"DATASETS": f"{tmp_path}/catalogue.toml"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "only 2 photos are scored, but nyu has 654: these are not benchmark scores" in done.stderr
        return done.stdout[done.stdout.index("  rel ") :]

    table = reproduce()
    rows = [line for line in table.splitlines() if line.startswith("nyu, ")]
    assert rows[0].startswith("nyu, field, pooled over pixels * ") and " 0.213 " in rows[-1]
    assert (
        f"scored here: 2 of 654 photos, 614400 pixels, of {tmp_path}/data/nyu/raw" in table
        and "field: 8 steps on 6 photos" in table
    )
    kept = json.loads((tmp_path / "runs/nyu-tiny/nyu.json").read_text())["field"]["pooled over pixels"]["rel"]
    assert f" {kept:.3f} " in rows[0]
    made = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".mat", ".npz", ".tfrecord"))
    made.remove(tmp_path / "runs/nyu-tiny/checkpoints/best.npz")
    before = [path.stat().st_mtime_ns for path in made]
    assert len(made) == 4 + 8 + 8 + 1 and reproduce() == table
    assert [path.stat().st_mtime_ns for path in made] == before
    with np.load(tmp_path / "data/nyu/patches/train/00001.npz") as patch:
        assert json.loads(str(patch["settings"]))["superpixels"] == "768"
