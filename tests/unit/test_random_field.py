"""The field's algebra against a dense inverse in float64, finite differences, and what must hold for any photo."""

import numpy as np
import pytest
import tensorflow as tf

from depthfield.field import random_field as field


def graph(seed: int, count: int, columns: int = 3, missing: float = 0.3) -> dict:
    """A random connected graph of one photo: each superpixel touches an earlier one, and some more pairs."""
    rng = np.random.default_rng(seed)
    tree = [(int(rng.integers(q)), q) for q in range(1, count)]
    more = [tuple(sorted(rng.choice(count, 2, replace=False))) for _ in range(count)]
    pairs = np.array(sorted({*tree, *more}), np.int32)
    return {
        "z": rng.normal(1, 0.5, count),
        "y": rng.normal(1, 0.5, count),
        "pairs": pairs,
        "similarities": rng.uniform(0, 1, (len(pairs), columns)),
        "beta": rng.uniform(0, 3, columns),
        "missing": rng.uniform(size=count) < missing,
    }


def dense(one: dict) -> np.ndarray:
    """A = I + Σ_k β_k(D_k - S_k), in float64, from full symmetric matrices S_k."""
    count = len(one["z"])
    matrix = np.eye(count)
    for k, beta in enumerate(one["beta"]):
        similarity = np.zeros((count, count))
        for (p, q), values in zip(one["pairs"], one["similarities"], strict=True):
            similarity[p, q] = similarity[q, p] = values[k]
        matrix += beta * (np.diag(similarity.sum(axis=1)) - similarity)
    return matrix


def tensors(*photos: dict) -> dict[str, tf.Tensor]:
    """Photos as a padded batch, float32."""
    count, pairs = max(len(one["z"]) for one in photos), max(len(one["pairs"]) for one in photos)

    def pad(values, length):
        return np.pad(values, [(0, length - len(values))] + [(0, 0)] * (values.ndim - 1))

    batch = {name: np.stack([pad(one[name], count) for one in photos]) for name in ("z", "y", "missing")}
    batch |= {name: np.stack([pad(one[name], pairs) for one in photos]) for name in ("pairs", "similarities")}
    batch["beta"] = photos[0]["beta"]
    return {name: tf.constant(v, tf.float32 if v.dtype == np.float64 else v.dtype) for name, v in batch.items()}


def marginal_log_likelihood(one: dict, tau: float = 1.0) -> float:
    """log Pr(measured y) of the Gaussian with mean A⁻¹z and covariance ½(τA)⁻¹, by its own dense formula."""
    known, inverse = ~one["missing"], np.linalg.inv(dense(one))
    residual = (one["y"] - inverse @ one["z"])[known]
    covariance = (inverse / (2 * tau))[np.ix_(known, known)]
    quadratic = residual @ np.linalg.solve(covariance, residual)
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])


def loss(batch: dict, tau: float = 1.0) -> tf.Tensor:
    """-log Pr(measured y) of each photo."""
    weights = field.pair_weights(batch["similarities"], batch["beta"])
    terms = field.likelihood_terms(batch["z"], weights, batch["pairs"], batch["y"], batch["missing"])
    return field.negative_log_likelihood(*terms, batch["measured"], tau)


def with_measured(batch: dict, *photos: dict) -> dict:
    return batch | {"measured": tf.constant([float((~one["missing"]).sum()) for one in photos])}


@pytest.mark.parametrize("count", [2, 7, 40, 300])
def test_answer_is_that_of_the_dense_inverse(count):
    one = graph(count, count)
    batch = tensors(one)
    y = field.answer(batch["z"], field.pair_weights(batch["similarities"], batch["beta"]), batch["pairs"])
    np.testing.assert_allclose(y[0], np.linalg.inv(dense(one)) @ one["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_answer_keeps_the_sum_of_z_and_stays_within_it(seed):
    one = graph(seed, 60)
    batch = tensors(one)
    y = field.answer(batch["z"], field.pair_weights(batch["similarities"], batch["beta"]), batch["pairs"]).numpy()[0]
    assert y.sum() == pytest.approx(one["z"].sum(), rel=1e-5)
    assert one["z"].min() - 1e-5 <= y.min() and y.max() <= one["z"].max() + 1e-5


def test_no_field_where_beta_is_zero():
    batch = tensors(graph(1, 20))
    y, sigma = field.marginals(
        batch["z"], tf.zeros_like(batch["similarities"][..., 0]), batch["pairs"], tf.constant(2.0)
    )
    np.testing.assert_allclose(y, batch["z"], rtol=1e-6)
    np.testing.assert_allclose(sigma, 0.5, rtol=1e-6)  # √(1 / 2τ)


def test_padding_changes_nothing():
    small, large = graph(2, 12), graph(3, 30)
    large["beta"] = small["beta"]
    alone = with_measured(tensors(small), small)
    together = with_measured(tensors(small, large), small, large)
    np.testing.assert_allclose(loss(together)[0], loss(alone)[0], rtol=1e-5)
    y = field.answer(
        together["z"], field.pair_weights(together["similarities"], together["beta"]), together["pairs"]
    ).numpy()
    np.testing.assert_allclose(y[0, :12], np.linalg.inv(dense(small)) @ small["z"], rtol=1e-4, atol=1e-5)
    assert not y[0, 12:].any()


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_likelihood_is_that_of_the_dense_gaussian_of_the_measured(missing, tau):
    one = graph(4, 25, missing=missing)
    found = loss(with_measured(tensors(one), one), tau)
    assert float(found[0]) == pytest.approx(-marginal_log_likelihood(one, tau), rel=1e-4)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_gradients_of_the_likelihood_are_finite_differences_of_the_dense_one(missing):
    one = graph(5, 15, missing=missing)
    batch = with_measured(tensors(one), one)
    with tf.GradientTape() as tape:
        tape.watch([batch["z"], batch["beta"]])
        value = loss(batch)
    for name, gradient in zip(("z", "beta"), tape.gradient(value, [batch["z"], batch["beta"]]), strict=True):
        np.testing.assert_allclose(
            np.ravel(gradient), differences(one, name, lambda o: -marginal_log_likelihood(o)), atol=2e-3
        )


def test_gradients_of_the_answer_are_finite_differences_of_the_dense_one():
    one, upstream = graph(6, 15), np.random.default_rng(0).normal(size=15)
    batch = tensors(one)
    with tf.GradientTape() as tape:
        tape.watch([batch["z"], batch["beta"]])
        y = field.answer(batch["z"], field.pair_weights(batch["similarities"], batch["beta"]), batch["pairs"])
        value = tf.reduce_sum(y * tf.constant(upstream, tf.float32))
    for name, gradient in zip(("z", "beta"), tape.gradient(value, [batch["z"], batch["beta"]]), strict=True):
        expected = differences(one, name, lambda o: upstream @ np.linalg.solve(dense(o), o["z"]))
        np.testing.assert_allclose(np.ravel(gradient), expected, atol=1e-4)


def test_gradients_are_the_papers():
    """∂/∂β_k = yᵀL_k y - zᵀA⁻¹L_kA⁻¹z - ½Tr(A⁻¹L_k), ∂/∂z = 2(A⁻¹z - y), where all depths are measured."""
    one = graph(7, 20, missing=0.0)
    inverse, y = np.linalg.inv(dense(one)), one["y"]
    y_star = inverse @ one["z"]
    batch = with_measured(tensors(one), one)
    with tf.GradientTape() as tape:
        tape.watch([batch["z"], batch["beta"]])
        value = loss(batch)
    by_z, by_beta = tape.gradient(value, [batch["z"], batch["beta"]])
    np.testing.assert_allclose(by_z[0], 2 * (y_star - y), atol=1e-4)
    for k in range(3):
        laplacian = dense(one | {"beta": np.eye(3)[k]}) - np.eye(20)
        paper = y @ laplacian @ y - y_star @ laplacian @ y_star - 0.5 * np.trace(inverse @ laplacian)
        assert float(by_beta[k]) == pytest.approx(paper, rel=1e-3, abs=1e-3)


def test_standard_deviations_are_those_of_the_dense_covariance():
    one = graph(8, 30)
    batch = tensors(one)
    weights = field.pair_weights(batch["similarities"], batch["beta"])
    y, sigma = field.marginals(batch["z"], weights, batch["pairs"], tf.constant(3.0))
    np.testing.assert_allclose(sigma[0], np.sqrt(np.diag(np.linalg.inv(dense(one))) / 6), rtol=1e-4)
    np.testing.assert_allclose(y[0], np.linalg.solve(dense(one), one["z"]), rtol=1e-4, atol=1e-5)


def test_best_tau_is_where_the_likelihood_is_greatest():
    one = graph(9, 40)
    batch = with_measured(tensors(one), one)
    weights = field.pair_weights(batch["similarities"], batch["beta"])
    q, _ = field.likelihood_terms(batch["z"], weights, batch["pairs"], batch["y"], batch["missing"])
    best = field.best_tau(float(q[0]), float(batch["measured"][0]))
    at = {scale: marginal_log_likelihood(one, best * scale) for scale in (0.9, 1.0, 1.1)}
    assert at[1.0] > at[0.9] and at[1.0] > at[1.1]


def differences(one: dict, name: str, function) -> np.ndarray:
    """Central differences of `function` by each entry of one[name], float64."""
    result = []
    for index in range(len(one[name])):
        step = np.eye(len(one[name]))[index] * 1e-5
        result.append((function(one | {name: one[name] + step}) - function(one | {name: one[name] - step})) / 2e-5)
    return np.array(result)


def test_standard_deviations_are_calibrated_on_data_drawn_from_the_model():
    """Depths drawn from the Gaussian of mean A⁻¹z and covariance ½(τA)⁻¹: 68.3 % within one deviation, 95.4 % two."""
    one, tau, draws = graph(10, 50), 3.0, 4000
    batch = tensors(one)
    weights = field.pair_weights(batch["similarities"], batch["beta"])
    y, sigma = (each.numpy()[0] for each in field.marginals(batch["z"], weights, batch["pairs"], tf.constant(tau)))
    factor = np.linalg.cholesky(np.linalg.inv(dense(one)) / (2 * tau))
    drawn = np.linalg.solve(dense(one), one["z"]) + np.random.default_rng(0).normal(size=(draws, 50)) @ factor.T
    error = np.abs(drawn - y) / sigma
    assert np.mean(error < 1) == pytest.approx(0.6827, abs=0.005)
    assert np.mean(error < 2) == pytest.approx(0.9545, abs=0.003)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1e4])
def test_two_thousand_superpixels_and_any_beta_stay_finite_and_right(beta):
    one = graph(11, 2000)
    one["beta"] = np.full(3, beta)
    batch = with_measured(tensors(one), one)
    with tf.GradientTape() as tape:
        tape.watch([batch["z"], batch["beta"]])
        nll = loss(batch)
    gradients = tape.gradient(nll, [batch["z"], batch["beta"]])
    assert all(np.isfinite(value).all() for value in (nll, *gradients))
    weights = field.pair_weights(batch["similarities"], batch["beta"])
    y, sigma = field.marginals(batch["z"], weights, batch["pairs"], tf.constant(1.0))
    expected = np.linalg.solve(dense(one), one["z"])
    np.testing.assert_allclose(y[0], expected, rtol=5e-3)  # of 0.3% for the largest, whose condition is some 1e6
    np.testing.assert_allclose(sigma[0], np.sqrt(np.diag(np.linalg.inv(dense(one))) / 2), rtol=2e-2)
