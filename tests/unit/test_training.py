"""Superpixel pooling, the model's losses, rounds and checkpoints."""

import dataclasses
import signal

import numpy as np
import pytest
import tensorflow as tf

from depthfield.network import losses, registry
from depthfield.network import model as models
from depthfield.network.pooling import pool
from depthfield.records import batches, patches
from depthfield.tool import INTERRUPTED, RUN_ME_AGAIN, Failure
from depthfield.training import checkpoints, chief, rounds
from depthfield.training import recipe as recipes
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
    train_round = rounds.make(state, recipe, 8)
    course = [float(train_round(iterator)) for _ in range(5)]
    assert course[-1] < course[0] and state.step.numpy() == 40


def test_one_round_of_four_steps_is_four_rounds_of_one():
    results = []
    for steps in (4, 1):
        state = new_state()
        iterator = iter(photos())
        train_round = rounds.make(state, RECIPE, steps)
        for _ in range(4 // steps):
            train_round(iterator)
        results.append(values(state))
    for name in results[0]:
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=2e-3, atol=1e-5, err_msg=name)


def test_of_two_workers_each_moves_the_parameters_half_as_far():
    moves = []
    for workers in (1, 2):
        state = new_state()
        before = values(state)
        rounds.make(state, RECIPE, 2, workers)(iter(photos()))
        moves.append({name: value - before[name] for name, value in values(state).items()})
    for name in (n for n in moves[0] if n.startswith("field/patchwise")):
        np.testing.assert_allclose(moves[1][name], moves[0][name] / 2, rtol=1e-3, atol=1e-6)
    assert moves[0]["step"] == moves[1]["step"] == 2


def test_beta_may_move_faster_than_the_network():
    moves = []
    for rate in (1.0, 10.0):
        recipe = dataclasses.replace(RECIPE, unary_share=0.0, pairwise_rate=rate)
        state = new_state(recipe)
        state.step.assign(recipe.steps // 2)  # at the first the rate is 0
        before = values(state)
        rounds.make(state, recipe, 1)(iter(photos()))
        moves.append({name: value - before[name] for name, value in values(state).items()})
    np.testing.assert_allclose(moves[1].pop("field/beta"), 10 * moves[0].pop("field/beta"), rtol=1e-3, atol=1e-6)
    assert np.abs(moves[0]["field/patchwise/z/kernel"]).max() > 0
    for name in moves[0]:
        np.testing.assert_allclose(moves[1][name], moves[0][name], rtol=1e-3, atol=1e-6)


def test_beta_is_projected_to_what_is_not_negative():
    state = new_state()
    state.model.beta.assign([-1.0, 0.0, 2.0])
    rounds.make(state, RECIPE, 2)(iter(photos()))
    assert (state.model.beta.numpy() >= 0).all()


def test_errors_on_the_held_out_photos_have_the_deviations_stated(prepared):
    model, shards = new_state().model, sorted((prepared / "rooms/records").glob("train-*"))
    validation = Validation(model, shards, 2**30)
    numbers = validation.run()
    squares = []
    for batch in validation.batches:
        y, deviation = model.marginals(batch)
        squares.append((((y - batch["log_depth"]) / deviation) ** 2)[batch["measured"]])
    assert float(tf.reduce_mean(tf.concat(squares, 0))) == pytest.approx(1, rel=1e-3)
    assert float(model.scale) == pytest.approx(numbers["scale"], rel=1e-5) and numbers["scale"] != 1


def test_checkpoints_keep_the_newest_two_and_pass_over_damaged_ones(tmp_path, capsys):
    state = new_state()
    for step in (1, 2, 3):
        state.step.assign(step)
        checkpoints.save(tmp_path, values(state))
    assert [path.name for path in checkpoints.found(tmp_path)] == ["000000002.npz", "000000003.npz"]
    path, newest = checkpoints.newest(tmp_path)
    assert path.name == "000000003.npz" and newest["step"] == 3
    path.write_bytes(path.read_bytes()[:-50])
    assert checkpoints.newest(tmp_path)[1]["step"] == 2
    assert "000000003.npz: damaged, passed over" in capsys.readouterr().err
    assert checkpoints.newest(tmp_path / "none") is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    state = new_state()
    path = checkpoints.save(tmp_path, values(state))
    shapes = {name: value.shape for name, value in values(state).items()}
    checkpoints.fit(path, values(state), shapes)
    with pytest.raises(Failure, match="a checkpoint of another recipe: field/beta"):
        checkpoints.fit(path, values(state), shapes | {"field/beta": (2,)})


def test_what_a_check_refuses_takes_no_checkpoints_place(tmp_path):
    def lost():
        raise Failure("taken over")

    state = new_state()
    kept = checkpoints.save(tmp_path, values(state))
    state.step.assign(1)
    with pytest.raises(Failure):
        checkpoints.save(tmp_path, values(state), lost)
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
