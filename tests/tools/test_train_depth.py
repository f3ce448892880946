"""train-depth from the shell: what a run keeps and refuses, how it goes on, and how it ends."""

import json
import shutil
import signal
import subprocess

import numpy as np
import pytest
from conftest import run
from shell import PROJECT, QUICK, SMALL, TINY, options, shards, wait_for

from depthfield.records import shards as records
from depthfield.records.patches import Patch

TRAIN = ("--recipe", "small", *options(SMALL))
RANDOM = ["colour=0.3", "crop=0.8", "turn=8", "mirror=true", "network.dropout=0.2"]


def test_a_run_holds_what_it_says_and_is_its_owners_alone(trained):
    assert trained.stat().st_mode & 0o777 == 0o700
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "validation" and lines[-1]["step"] == 16 and 0 < lines[-1]["rel"] < 5
    assert lines[-1]["tau"] > 0 and list((trained / "events").glob("events.out.tfevents.*"))
    survey = json.loads((trained / "survey.json").read_text())
    assert survey["photos"] == 12 and survey["held_out"] == 1 and 0.5 < survey["mean_depth"] < 10
    photos = [line.split("\t") for line in (trained / "photos.tsv").read_text().splitlines()]
    assert [part for _, _, part, _ in photos].count("held-out") == 1 and len({digest for *_, digest in photos}) == 12
    command = json.loads((trained / "commands.jsonl").read_text().splitlines()[0])
    assert command["command"].startswith("train-depth --recipe small --run ") and command["photos"] == survey["digest"]
    assert command["time"] and command["host"] and command["python"] and command["tensorflow"] and command["commit"]


def test_training_continues_from_the_newest_checkpoint_and_only_with_the_same_recipe(prepared, trained, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    ask = ("train-depth", "--run", again, *TRAIN, *shards(prepared, "train"))
    done = run(*ask, "--steps", 24, cwd=tmp_path)
    assert done.returncode == 0 and "continuing from" in done.stderr and "step 16 of 24" in done.stderr
    assert "keeps the schedule of 16 steps that it started with; later steps have 0.01 of its highest" in done.stderr
    assert done.stdout.strip() == str(again / "checkpoints/000000024.npz")
    last = json.loads((again / "commands.jsonl").read_text().splitlines()[-1])
    assert last["steps"] == 24 and last["begins"] == str(again / "checkpoints/000000016.npz")
    done = run(*ask, "--set", "batch_size=3", cwd=tmp_path)
    assert done.returncode == 1 and "started with another recipe (batch_size = 2, now 3" in done.stderr


@pytest.mark.long
def test_one_seed_gives_one_training(prepared, tmp_path):
    checkpoints = []
    for name, seed in (("first", 7), ("second", 7), ("other", 8)):
        words = [*TRAIN, "--run", tmp_path / name, "--steps", 24, *options([*RANDOM, f"seed={seed}"])]
        done = run("train-depth", *words, *shards(prepared, "train"), cwd=tmp_path)
        checkpoints.append(variables(done.stdout.strip()))
    first, second, other = checkpoints
    assert differing(first, second) == [] and differing(first, other) != []


def variables(checkpoint) -> dict[str, np.ndarray]:
    with np.load(checkpoint) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "made_with"}


def differing(one: dict, other: dict) -> list[str]:
    """The variables that are not the same bit for bit."""
    assert one.keys() == other.keys()
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(prepared, tmp_path):
    """200 steps; 80 and 120 more; and 200 with a kill, continuing from the last checkpoint."""
    own = [*TINY, *RANDOM, "round_steps=4", "validation_steps=40", "loss=likelihood", "checkpoint_seconds=0"]
    words = [*("--recipe", QUICK), *options(own), *shards(prepared, "train")]

    def train(name: str, *more) -> subprocess.CompletedProcess:
        done = run("train-depth", *words, "--run", tmp_path / name, *more, cwd=tmp_path)
        assert done.returncode in (0, 99), done.stderr
        return done

    whole = variables(train("whole", "--steps", 200).stdout.strip())
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole/recipe.toml", tmp_path / "parts")  # it began with the schedule of 200 steps
    assert "keeps the schedule of 200 steps" in train("parts", "--steps", 80).stderr
    parts = variables(train("parts", "--steps", 200).stdout.strip())
    assert int(whole["step"]) == 200 and differing(whole, parts) == []

    folder = tmp_path / "killed"
    command = [PROJECT / "bin/train-depth", *words, "--run", folder, "--steps", "200"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: [path for path in folder.glob("checkpoints/0*.npz") if int(path.stem) >= 70])
        finally:
            process.kill()
    assert not (folder / "checkpoints/000000200.npz").exists()
    assert differing(whole, variables(train("killed", "--steps", 200).stdout.strip())) == []


def stopped(prepared, run, *more: str, number: int | None = None) -> str:
    """What train-depth prints when it is stopped, by a signal after its first step or by itself."""
    words = ["--recipe", QUICK, *options([*TINY, "summary_seconds=0"]), "--run", run, "--steps", "100000"]
    command = [PROJECT / "bin/train-depth", *words]
    with subprocess.Popen(
        [*command, *more, *shards(prepared, "train")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if number:
                wait_for(lambda: (run / "metrics.jsonl").exists())
                process.send_signal(number)
            out, told = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 99 and "run me again" in told
    return out.strip()


@pytest.mark.parametrize("how", ["signal", "timeout"])
def test_training_that_is_stopped_saves_and_says_99(prepared, tmp_path, how):
    if how == "signal":
        out = stopped(prepared, tmp_path / "run", number=signal.SIGUSR2)
    else:  # a busy machine takes no step within the first times
        times = (stopped(prepared, tmp_path / "run", "--timeout", str(seconds)) for seconds in (10, 20, 40, 80))
        out = next(out for out in times if out and not out.endswith(f"{0:09d}.npz"))
    step = int(np.load(out)["step"])
    assert step > 0 and out.endswith(f"{step:09d}.npz")


@pytest.mark.parametrize(("rate", "round_steps", "steps"), [("1e30", 8, 4000), ("1e39", 1, 17)])
def test_what_is_not_finite_is_a_failure_that_names_the_last_good_checkpoint(
    prepared, trained, tmp_path, rate, round_steps, steps
):
    """The loss in the midst of training; the parameters after the last step, whose loss was good."""
    bad = tmp_path / "bad"
    shutil.copytree(trained, bad)
    recipe = (bad / "recipe.toml").read_text().replace("steps = 16\n", "steps = 4000\n")
    recipe = recipe.replace("round_steps = 0", f"round_steps = {round_steps}")
    (bad / "recipe.toml").write_text(recipe.replace("learning_rate = 0.001", f"learning_rate = {rate}"))
    own = options([f"learning_rate={rate}", f"round_steps={round_steps}"])
    before = sorted((bad / "checkpoints").iterdir())
    done = run("train-depth", "--run", bad, *TRAIN, *own, "--steps", steps, *shards(prepared, "train"), cwd=tmp_path)
    assert done.returncode == 1 and "trained to step" not in done.stderr, done.stderr
    assert "not finite near step" in done.stderr and "last good checkpoint is " in done.stderr
    assert "000000016.npz; try a lower learning_rate" in done.stderr
    assert ("variables are not finite near step 17" in done.stderr) == (steps == 17), done.stderr
    assert sorted((bad / "checkpoints").iterdir()) == before


def edited(prepared, folder, change):
    """The training shards with `change(patch)` in place of each patch, or without those it gives None for."""
    folder.mkdir()
    made = []
    for shard in shards(prepared, "train"):
        path = folder / shard.name
        examples = [as_patch(example) for example in records.read([shard])]
        changed = [(name, change(patch)) for name, patch in examples]
        records.write(path, [records.encode(name, patch) for name, patch in changed if patch is not None])
        made.append(path)
    return made


def as_patch(example) -> tuple[str, Patch]:
    fields = {name: example.get(name, "") for name in Patch._fields}  # shards lack how its files were read
    fields |= {name: example[name].decode() for name in ("source", "group", "settings")}
    fields["similarity_names"] = example["similarity_names"].astype(str)
    return example["name"].decode(), Patch(**fields)


MADE_OTHERWISE = {
    "superpixels": ("grid:12", "grid:9"), "similarities": ('"texture", "histogram"', '"histogram", "texture"'),
    "size": ('"width": 96', '"width": 200'),
}  # fmt: skip


@pytest.mark.parametrize("what", MADE_OTHERWISE)
def test_records_made_otherwise_are_refused_with_both_settings(prepared, trained, tmp_path, what):
    old, new = MADE_OTHERWISE[what]
    others = edited(prepared, tmp_path / "other", lambda p: p._replace(settings=p.settings.replace(old, new)))
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    asked = [["train-depth", "--run", again, *TRAIN, "--steps", 24]]
    if what == "size":  # by each command that reads records; they compare all settings alike
        asked += [["train-depth", "--run", tmp_path / "new", *TRAIN, "--init", trained]]
        asked += [["score-depth", "--run", trained]]
    for words in asked:
        done = run(*words, *others, cwd=tmp_path)
        told = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and "superpixels grid:12, similarities texture,histogram,colour, 96×72" in told
        assert {"superpixels": "grid:9", "similarities": "histogram,texture,colour", "size": "200×72"}[what] in told


def test_a_checkpoint_of_other_records_is_not_exported(trained, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    survey = (again / "survey.json").read_text()
    (again / "survey.json").write_text(survey.replace('"grid:12"', '"grid:9"'))
    done = run("export-model", "--run", again, cwd=tmp_path)
    assert done.returncode == 1 and not (again / "model").exists()
    assert "made with superpixels grid:12, " in done.stderr and "survey.json says superpixels grid:9, " in done.stderr


def test_photos_added_and_gone_are_reported_and_what_is_held_out_stays_so(prepared, trained, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    first = {line.split("\t")[0]: line.split("\t")[2] for line in (again / "photos.tsv").read_text().splitlines()}
    gone, new = next(source for source, part in first.items() if part == "train"), "photo 99"
    held_out = next(source for source, part in first.items() if part == "held-out")

    def change(patch):
        return patch._replace(source=new) if patch.source == gone else patch._replace(group=f"{patch.group} again")

    ask = ("train-depth", "--run", again, *TRAIN, "--steps", 24, *edited(prepared, tmp_path / "other", change))
    done = run(*ask, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 added, 1 removed, 11 changed" in done.stderr
    now = {line.split("\t")[0]: line.split("\t")[2] for line in (again / "photos.tsv").read_text().splitlines()}
    assert new in now and gone not in now
    assert [source for source, part in now.items() if part == "held-out"] == [held_out]
    assert "photos differ from those" not in run(*ask, cwd=tmp_path).stderr


def test_a_photo_without_a_measurement_and_photos_of_the_training_are_reported(prepared, trained, tmp_path):
    def change(patch):
        blind = patch.source.endswith("#3")
        return patch._replace(depth_map=patch.depth_map * np.nan, depth=patch.depth * np.nan) if blind else patch

    done = run("score-depth", "--run", trained, *edited(prepared, tmp_path / "o", change), cwd=tmp_path)
    assert done.returncode == 1 and "field, scored: 100.0%" in done.stdout
    assert "nyu_depth_v2_labeled.mat#3: skipped, it has no measured pixel" in done.stderr
    assert f"11 of these photos were used to train {trained}: these are not test scores" in done.stderr


def test_missing_shards_are_named(prepared, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for shard in shards(prepared, "train")[:2]:
        shutil.copy(shard, folder)
    done = run("train-depth", "--run", tmp_path / "run", *TRAIN, *sorted(folder.iterdir()), cwd=tmp_path)
    assert done.returncode == 1 and "shards are missing: train-00002-of-00003.tfrecord" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_held_out_photo_the_uncertainty_is_marked_as_not_calibrated(prepared, tmp_path):
    words = ["--recipe", QUICK, *options([*TINY, "validation_share=0"]), "--run", tmp_path / "run", "--steps", 16]
    done = run("train-depth", *words, *shards(prepared, "train"), cwd=tmp_path)
    assert done.returncode == 0 and "no photo is held out: the uncertainty will not be calibrated" in done.stderr
    values = variables(done.stdout.strip())
    assert values["field/tau"] == values["field/scale"] == 1 and not (tmp_path / "run/checkpoints/best.npz").exists()
    marked = "the uncertainty is not calibrated: no photo was held out"
    scored = run("score-depth", "--run", tmp_path / "run", *shards(prepared, "test"), cwd=tmp_path)
    assert scored.returncode == 0 and "95.4%), not calibrated" in scored.stdout and marked in scored.stderr
    assert "000000016.npz (step 16)" in scored.stderr
    for words in (["predict-depth", "--uncertainty", PROJECT / "data/demo.jpg"], ["export-model"]):
        done = run(words[0], "--run", tmp_path / "run", *words[1:], cwd=tmp_path)
        assert done.returncode == 0 and marked in done.stderr, done.stderr
    done = run("export-model", "--run", tmp_path / "run", "--checkpoint", "best", cwd=tmp_path)
    assert done.returncode == 1 and "use --checkpoint newest" in done.stderr
