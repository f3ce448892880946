"""Superpixel pooling, the model's losses, rounds and checkpoints."""

import dataclasses
import json
import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from depthfield.network import losses, registry
from depthfield.network import model as models
from depthfield.network.pooling import pool
from depthfield.records import batches, index, patches
from depthfield.tool import INTERRUPTED, RUN_ME_AGAIN, Failure
from depthfield.training import checkpoints, chief, provenance, rounds, survey
from depthfield.training import recipe as recipes
from depthfield.training.optimizer import learning_rate
from depthfield.training.validation import Validation

SMALL = ["network.patch=16", 'network.convolutions=["8 3x3 /2"]', "network.dense=[8]"]
NAMES = ("texture", "histogram", "colour")
RECIPE = recipes.load("dcnf-small", [*SMALL, "steps=40", "batch_size=2"])


def photos(count: int = 2) -> tf.data.Dataset:
    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        image = rng.integers(0, 256, (8, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        depth = rng.uniform(1, 5, (8, 12)).repeat(8, axis=0).repeat(8, axis=1).astype(np.float32)
        depth[:8, :8] = np.nan
        fields = patches.make(image, depth, "", "", "grid:8", NAMES)._asdict()
        made.append(batches.prepare({name: tf.constant(fields[name]) for name in batches.FIELDS}))
    stacked = {name: tf.stack([photo[name] for photo in made]) for name in made[0]}
    return tf.data.Dataset.from_tensors(stacked).repeat()


def new_state(recipe=RECIPE) -> rounds.State:
    import random

    random.seed(0)
    return rounds.state(models.build(recipe, NAMES, 1.0), recipe)


def values(state: rounds.State) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in state.variables().items()}


def test_what_is_summed_over_replicas_has_known_shapes_whatever_the_network():
    recipe = recipes.load("small", ["network.widths=[8,16,16,16]", "network.features=8", "network.dense=[8]"])
    found = []

    def mean(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        found.extend(tensor.shape for tensor in tensors)
        return tensors

    batch = next(iter(photos()))
    of_any_shape = {name: tf.TensorSpec([None] * value.shape.rank, value.dtype) for name, value in batch.items()}
    one = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=of_any_shape)
    train_round = rounds.make(new_state(recipe), recipe, mean=mean)
    assert np.isfinite(train_round(iter(one), 1).loss)
    assert found and all(shape.is_fully_defined() for shape in found)


def test_pooling_is_the_mean_of_the_map_enlarged_by_nearest_neighbour():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
    labels = rng.integers(0, 6, (2, 33, 50)).astype(np.int32)
    labels[1, 20:] = -1  # padding
    rows, columns = np.arange(33) * 5 // 33, np.arange(50) * 7 // 50
    enlarged = features[:, rows][:, :, columns]
    pooled = pool(tf.constant(features), tf.constant(labels), tf.constant(8)).numpy()
    for photo in range(2):
        for label in range(6):
            expected = enlarged[photo][labels[photo] == label].mean(axis=0)
            np.testing.assert_allclose(pooled[photo, label], expected, rtol=1e-4, atol=1e-5)
    assert not pooled[:, 6:].any()


def test_losses_leave_out_what_was_not_measured():
    batch = next(iter(photos()))
    z = tf.where(batch["measured"], batch["log_depth"], 99.0)
    nothing = tf.zeros(batch["pairs"].shape[:2])
    assert float(losses.unary(z, nothing, 1.0, batch)) == 0
    assert float(losses.answer(z, nothing, 1.0, batch)) == 0
    assert float(losses.answer(z, nothing + 1, 1.0, batch)) > 0


@pytest.mark.parametrize("loss", sorted(registry.LOSSES))
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_training_lowers_each_loss(loss, optimizer):
    recipe = recipes.load("dcnf-small", [*SMALL, "steps=40", "weight_decay=0"])
    recipe = dataclasses.replace(recipe, loss=loss, optimizer=optimizer, unary_share=0.0)
    state = new_state(recipe)
    iterator = iter(photos())
    train_round = rounds.make(state, recipe)
    course = [train_round(iterator, 8).loss for _ in range(5)]
    assert course[-1] < course[0] and state.step.numpy() == 40


def test_one_round_of_four_steps_is_four_rounds_of_one():
    results = []
    for steps in (4, 1):
        state = new_state()
        iterator = iter(photos())
        train_round = rounds.make(state, RECIPE)
        for _ in range(4 // steps):
            train_round(iterator, steps)
        results.append(values(state))
    for name in results[0]:
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=2e-3, atol=1e-5, err_msg=name)


def test_a_step_of_four_workers_with_one_gradient_is_a_step_of_one():
    """Four count as four steps of the schedule, and move the parameters by twice the rate."""
    four = dataclasses.replace(RECIPE, steps=4 * RECIPE.steps)
    one = dataclasses.replace(RECIPE, learning_rate=2 * RECIPE.learning_rate)
    alone, together = new_state(one), new_state(four)
    for state in (alone, together):
        state.age.assign(100)  # beyond the rise, which goes by the steps of each
    sums = []

    def mean(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        sums.append(len(tensors))
        return [(tensor + tensor + tensor + tensor) / 4 for tensor in tensors]

    told = rounds.make(alone, one)(iter(photos()), 6)
    all_told = rounds.make(together, four, (), mean, 4)(iter(photos()), 6)
    assert sums == [1 + len(together.model.trainable_variables)]  # the loss, and all gradients at once
    assert (told.steps, all_told.steps) == (6, 24) and all_told.loss == told.loss
    expected = values(alone) | {"step": np.int64(24)}
    for name, value in values(together).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_beta_may_move_faster_than_the_network():
    moves = []
    for rate in (1.0, 10.0):
        recipe = dataclasses.replace(RECIPE, unary_share=0.0, pairwise_rate=rate)
        state = new_state(recipe)
        state.step.assign(recipe.steps // 2)  # at the first the rate is 0
        before = values(state)
        state.age.assign(recipe.steps // 2)
        rounds.make(state, recipe)(iter(photos()), 1)
        moves.append({name: value - before[name] for name, value in values(state).items()})
    np.testing.assert_allclose(moves[1].pop("field/beta"), 10 * moves[0].pop("field/beta"), rtol=1e-3, atol=1e-6)
    assert np.abs(moves[0]["field/patchwise/z/kernel"]).max() > 0
    for name in moves[0]:
        np.testing.assert_allclose(moves[1][name], moves[0][name], rtol=1e-3, atol=1e-6)


def test_beta_is_projected_to_what_is_not_negative():
    state = new_state()
    state.model.beta.assign([-1.0, 0.0, 2.0])
    rounds.make(state, RECIPE)(iter(photos()), 2)
    assert (state.model.beta.numpy() >= 0).all()


def test_beta_below_zero_counts_for_nothing_where_it_is_used():
    state, batch = new_state(), next(iter(photos()))
    state.model.beta.assign([-1.0, 0.0, 2.0])
    _, weights = state.model(batch)
    np.testing.assert_allclose(weights, 2 * batch["similarities"][..., 2], rtol=1e-6)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(state.model(batch)[1])
    assert tape.gradient(total, state.model.beta.value)[1] > 0  # from 0 it may rise again


def test_the_rate_follows_the_steps_a_run_began_with_and_stays_low_beyond_them():
    recipe = recipes.load("dcnf-small", ["steps=100", "learning_rate=1"])
    rates = [float(learning_rate(recipe, tf.constant(step), tf.constant(step))) for step in (0, 1, 2, 50, 99, 100, 250)]
    np.testing.assert_allclose(rates, [0, 0.5, 0.99901, 0.5, 0.000247, 0.01, 0.01], rtol=1e-2, atol=1e-6)
    risen = [float(learning_rate(recipe, tf.constant(50), tf.constant(age))) for age in (0, 1, 2)]  # slots start again
    np.testing.assert_allclose(risen, [0, 0.5, 0.5], atol=1e-6)


def stored(data) -> list[index.Photo]:
    return [photo for photo, _ in index.read(sorted((data / "rooms/records").glob("train-*")))]


OF_A_WORKER = """Graph execution error:

Detected at node DatasetToSingleElement defined at (most recent call last):
<stack traces unavailable>
Error in user-defined function passed to ParallelMapDatasetV2:3 transformation with iterator: Iterator::Root::Prefetch\
::ParallelMapV2::Zip[2]::ForeverRepeat[0]::MemoryCacheImpl::PaddedBatchV2::ParallelMapV2: /far/train-00000-of-00003\
.tfrecord; No such file or directory
\t [[{{node DatasetToSingleElement}}]]
Additional GRPC error information from remote target /job:worker/replica:0/task:1 while calling /tensorflow.eager.\
EagerService/Enqueue:
"""


def test_a_worker_that_cannot_read_a_shard_is_named_with_its_host(tmp_path, monkeypatch):
    def fails(*_):
        raise tf.errors.NotFoundError(None, None, OF_A_WORKER)

    monkeypatch.setattr(chief, "Training", fails)
    cluster = {"chief": ["node1:0"], "ps": ["node1:4001"], "worker": ["node2:4002", "node3:4003"]}
    with pytest.raises(Failure, match=r"^worker 1 on node3: cannot read /far/train-00000-of-00003\.tfrecord: no such "):
        chief.train(RECIPE, tmp_path / "run", [], cluster, None, None)


def test_errors_on_the_held_out_photos_have_the_deviations_stated(prepared):
    model = new_state().model
    validation = Validation(model, stored(prepared), 2, calibrate=True)
    numbers, z = validation.run()
    present = sum(np.count_nonzero(batch["present"]) for batch in validation.batches)
    assert z.dtype == np.float32 and z.shape == (present,)
    squares = []
    for batch in validation.batches:
        y, deviation = model.marginals(batch)
        squares.append((((y - batch["log_depth"]) / deviation) ** 2)[batch["measured"]])
    assert float(tf.reduce_mean(tf.concat(squares, 0))) == pytest.approx(1, rel=1e-3)
    assert float(model.scale) == pytest.approx(numbers["scale"], rel=1e-5) and numbers["scale"] != 1


def test_photos_that_are_not_held_out_calibrate_nothing(prepared):
    model = new_state().model
    numbers, _ = Validation(model, stored(prepared), 2, calibrate=False).run()
    assert float(model.tau) == float(model.scale) == numbers["tau"] == 1 and numbers["rel"] > 0
    assert not model.calibrated


def test_without_the_field_the_scale_of_the_deviations_is_1_and_they_are_calibrated(prepared):
    model = new_state(dataclasses.replace(RECIPE, loss="unary")).model
    numbers, _ = Validation(model, stored(prepared), 2, calibrate=True).run()
    assert numbers["scale"] == pytest.approx(1, abs=1e-5) and numbers["tau"] != 1
    model.scale.assign(1.0)  # whether rounding leaves it a digit away is luck
    assert model.calibrated


def test_validation_takes_no_more_photos_at_once_than_training(prepared):
    validation = Validation(new_state().model, stored(prepared), 2, calibrate=True)
    assert {len(batch["image"]) for batch in validation.batches} == {2}


# ---- what is held out


@pytest.mark.parametrize(
    ("sizes", "share", "held_out"),
    [
        ([1] * 40, 0.1, 4), ([3] * 40, 0.1, 12), ([7] * 10, 0.1, 7), ([50, 50], 0.1, 50), ([9], 0.5, 0),
        ([1, 1, 1], 0.1, 0), ([5] * 8, 0.0, 0), ([40, 3, 3, 4], 0.1, None),
    ],
)  # fmt: skip
def test_groups_are_held_out_whole_and_about_as_many_as_wanted(sizes, share, held_out):
    groups = Counter({f"scene {number}": size for number, size in enumerate(sizes)})
    chosen = survey.held_out_groups(groups, share)
    photos = sum(groups[name] for name in chosen)
    assert photos == held_out if held_out is not None else 0 < photos <= share * groups.total()
    assert chosen == survey.held_out_groups(Counter(dict(reversed(groups.items()))), share)


def settings(width=96, height=72, superpixels="grid:12", names=NAMES) -> patches.Settings:
    return patches.Settings(superpixels, names, width, height)


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (settings(), True), (settings(100, 76), True), (settings(72, 96), True), (settings(48, 36), False),
        (settings(192, 144), False), (settings(superpixels="300"), False), (settings(names=NAMES[::-1]), False),
    ],
)  # fmt: skip
def test_photos_made_with_other_settings_do_not_fit_a_run(prepared, tmp_path, other, fits):
    known, _ = survey.begin(tmp_path, sorted((prepared / "rooms/records").glob("train-*")), 0.1)
    assert known.fits(other) == fits and survey.read(tmp_path) == known
    assert known.made_with() == "superpixels grid:12, similarities texture,histogram,colour, 96×72 pixels"


# ---- checkpoints


MADE_WITH = "superpixels 700, similarities colour, 320×240 pixels"


def test_checkpoints_keep_the_newest_two_and_pass_over_damaged_ones(tmp_path, capsys):
    state = new_state()
    for step in (1, 2, 3):
        state.step.assign(step)
        checkpoints.save(tmp_path, values(state), MADE_WITH)
    assert [path.name for path in checkpoints.found(tmp_path)] == ["000000002.npz", "000000003.npz"]
    newest = checkpoints.newest(tmp_path)
    assert newest.path.name == "000000003.npz" and newest.step == 3
    newest.path.write_bytes(newest.path.read_bytes()[:-50])
    assert checkpoints.newest(tmp_path).step == 2
    assert "000000003.npz: skipped, it is damaged" in capsys.readouterr().err
    assert checkpoints.newest(tmp_path / "none") is None


def test_the_best_checkpoint_is_taken_unless_another_is_asked_for(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(Failure, match="no checkpoint yet"):
        checkpoints.chosen(tmp_path, None)
    checkpoints.save(folder, values(new_state()) | {"step": 9}, MADE_WITH)
    assert checkpoints.chosen(tmp_path, None).step == 9
    with pytest.raises(Failure, match="validated on held-out photos yet; use --checkpoint newest"):
        checkpoints.chosen(tmp_path, "best")
    checkpoints.save_best(folder, values(new_state()) | {"step": 4}, MADE_WITH, 0.25, lambda: None)
    assert [checkpoints.chosen(tmp_path, which).step for which in (None, "best", "newest")] == [4, 4, 9]
    said = checkpoints.chosen(tmp_path, None).in_words("data/rooms")
    assert "best.npz (step 4; rel 0.250 on held-out photos of data/rooms; other places and cameras can be" in said
    assert checkpoints.chosen(tmp_path, "newest").in_words("data/rooms").endswith("000000009.npz (step 9)")
    assert [path.name for path in checkpoints.found(folder)] == ["000000009.npz"]


def test_the_dataset_of_a_run_is_that_of_the_shards_of_its_last_training(tmp_path):
    assert provenance.records(tmp_path) == [] and provenance.dataset(tmp_path) == ""
    lines = ["train-depth old/records/a.tfrecord", "train-depth ./data/rooms/records/a.tfrecord 'my own/b.tfrecord'"]
    written = [json.dumps({"command": line}) + "\n" for line in (*lines, "export-model --run r")]
    (tmp_path / "commands.jsonl").write_text("".join(written))
    assert provenance.records(tmp_path) == [Path("data/rooms/records"), Path("my own")]
    assert provenance.dataset(tmp_path) == "data/rooms and my own"
    (tmp_path / "commands.jsonl").write_text("[]\n")
    assert provenance.dataset(tmp_path) == ""


def test_where_a_run_is_not_those_in_the_folder_or_beside_it_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="^runs/first: no such run$"):
        checkpoints.check_run(Path("runs/first"))
    for age, name in enumerate(("old", "b", "c", "new")):
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        (folder / "survey.json").touch()
        os.utime(folder / "survey.json", (age, age))
    Path("runs/logs").mkdir()
    known = "runs here: runs/new, runs/c, runs/b and 1 more$"
    said_of = {"runs/first": "no such run", "runs": "a folder of runs, not", "runs/logs": "not a run of train-depth"}
    for name, said in said_of.items():
        with pytest.raises(Failure, match=f"^{name}: {said}.*; {known}"):
            checkpoints.check_run(Path(name))
    assert checkpoints.check_run(Path("runs/old")) == Path("runs/old")


def test_a_checkpoint_of_another_model_or_of_other_photos_is_refused(tmp_path):
    state = new_state()
    checkpoints.save(tmp_path, values(state), MADE_WITH)
    newest = checkpoints.newest(tmp_path)
    shapes = {name: value.shape for name, value in values(state).items()}
    checkpoints.fit(newest, shapes, MADE_WITH)
    with pytest.raises(Failure, match="a checkpoint of another recipe: field/beta"):
        checkpoints.fit(newest, shapes | {"field/beta": (2,)}, MADE_WITH)
    with pytest.raises(Failure, match="made with superpixels 700, .* says superpixels 300, "):
        checkpoints.fit(newest, shapes, MADE_WITH.replace("700", "300"))


def test_what_a_check_refuses_takes_no_checkpoints_place(tmp_path):
    def lost():
        raise Failure("taken over")

    state = new_state()
    kept = checkpoints.save(tmp_path, values(state), MADE_WITH)
    state.step.assign(1)
    with pytest.raises(Failure):
        checkpoints.save(tmp_path, values(state), MADE_WITH, lost)
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_beside_the_sigterm_of_watch_nodes_means_run_me_again(monkeypatch, first):
    monkeypatch.setattr(chief.signal, "signal", lambda *_: None)
    stop = chief.Stop(None)
    stop.note(signal.SIGINT, None)
    assert (stop.reason(), stop.status()) == ("SIGINT", INTERRUPTED)
    stop = chief.Stop(None)
    stop.note(first, None)
    stop.note(signal.SIGINT + signal.SIGTERM - first, None)
    assert (stop.reason(), stop.status()) == ("SIGTERM", RUN_ME_AGAIN)
