"""The exact Gaussian random field over the superpixels of a photo, in log depth.

Symbols as in Liu, Shen, Lin, Reid 2015: z is the network's unary output, y the depth, R_pq = Σ_k β_k S_pq^(k) the
weight of a pair, A = I + D - R with D the row sums of R. The energy is τ(yᵀAy - 2zᵀy + zᵀz), so y is Gaussian with
mean y* = A⁻¹z and covariance ½(τA)⁻¹; the paper has τ = 1. A is symmetric and positive definite for β ≥ 0: one Cholesky
factorisation gives everything here, and no gradient passes through it.

Photos of a batch differ in their number of superpixels n and pairs m. Padding rows have z = y = 0 and no pairs, so
they are rows of the identity; padding pairs are (0, 0) with similarity 0. Neither adds anything to any term.
Shapes: z, y float32 [B, n]; pairs int32 [B, m, 2]; weights float32 [B, m], the R of each pair, counted once.
"""

import math

import tensorflow as tf


def pair_weights(similarities: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Return R of each pair, [B, m], from its similarities [B, m, K] and β [K] ≥ 0."""
    return tf.linalg.matvec(similarities, beta)


def precision(weights: tf.Tensor, pairs: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return A = I + D - R as a dense matrix, [B, n, n], for n = `count`."""
    batch = tf.shape(weights)[0]
    p, q = pairs[..., 0], pairs[..., 1]
    photo = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(p))
    entries = [tf.stack([photo, row, column], axis=-1) for row, column in ((p, p), (q, q), (p, q), (q, p))]
    values = [weights, weights, -weights, -weights]
    identity = tf.eye(count, batch_shape=[batch], dtype=weights.dtype)
    return tf.tensor_scatter_nd_add(identity, tf.concat(entries, axis=1), tf.concat(values, axis=1))


def difference(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Return values_p - values_q of each pair, [B, m], for values [B, n]."""
    ends = tf.gather(values, pairs, batch_dims=1)
    return ends[..., 0] - ends[..., 1]


def variance_of_difference(covariance: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Return C_pp + C_qq - 2C_pq of each pair, [B, m], for a covariance C [B, n, n].

    This is the variance of values_p - values_q, and the derivative of Tr(CA) by the pair's weight.
    """
    diagonal = tf.gather(tf.linalg.diag_part(covariance), pairs, batch_dims=1)
    return tf.reduce_sum(diagonal, axis=-1) - 2 * tf.gather_nd(covariance, pairs, batch_dims=1)


def solve(factor: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Solve LLᵀx = right for x [B, n], with the Cholesky factor L [B, n, n]."""
    return tf.linalg.cholesky_solve(factor, right[..., None])[..., 0]


def inverse(factor: tf.Tensor) -> tf.Tensor:
    """Return (LLᵀ)⁻¹ for the Cholesky factor L [B, n, n]."""
    return tf.linalg.cholesky_solve(factor, tf.eye(tf.shape(factor)[-1], batch_shape=tf.shape(factor)[:-2]))


@tf.custom_gradient
def answer(z: tf.Tensor, weights: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Return y* = A⁻¹z, the most probable depth, [B, n].

    With g = ∂loss/∂y*: ∂loss/∂z = A⁻¹g, and ∂loss/∂R_pq = -(A⁻¹g)ᵀ(∂A/∂R_pq)y*, a product of differences.
    """
    factor = tf.linalg.cholesky(precision(weights, pairs, tf.shape(z)[1]))
    y = solve(factor, z)

    def gradient(upstream):
        by_z = solve(factor, upstream)
        return by_z, -difference(by_z, pairs) * difference(y, pairs), None

    return y, gradient


def marginals(z: tf.Tensor, weights: tf.Tensor, pairs: tf.Tensor, tau: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return y* = A⁻¹z and the standard deviation of each y_p, the root of the diagonal of ½(τA)⁻¹; both [B, n]."""
    factor = tf.linalg.cholesky(precision(weights, pairs, tf.shape(z)[1]))
    return solve(factor, z), tf.sqrt(tf.linalg.diag_part(inverse(factor)) / (2 * tau))


@tf.custom_gradient
def likelihood_terms(
    z: tf.Tensor, weights: tf.Tensor, pairs: tf.Tensor, y: tf.Tensor, missing: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the terms of the likelihood of the measured depths, with the others integrated out exactly.

    y [B, n] log depth, any finite value where `missing` [B, n] (bool) is true. Returns two [B]:
    the energy q = (ŷ - y*)ᵀA(ŷ - y*), with ŷ the measured y and, where missing, its conditional mean given them; and
    log|S| = log|A| - log|A_uu|, S the Schur complement of the missing block u (Rue and Held 2005, section 2.2.5).

    Closed-form gradients: ∂q/∂z = 2(y* - ŷ); ∂q/∂R_pq = (ŷ_p - ŷ_q)² - (y*_p - y*_q)², since ŷ and y* are minima;
    ∂log|S|/∂R_pq is the variance of y_p - y_q for the covariance A⁻¹ less that for A_uu⁻¹. Summed with S^(k) they are
    the paper's gradients by β_k.
    """
    unknown = tf.cast(missing, z.dtype)
    matrix = precision(weights, pairs, tf.shape(z)[1])
    block = matrix * unknown[:, :, None] * unknown[:, None, :]  # A_uu, the identity elsewhere
    block = tf.linalg.set_diag(block, tf.where(missing, tf.linalg.diag_part(matrix), tf.ones_like(z)))
    factor, block_factor = tf.linalg.cholesky(matrix), tf.linalg.cholesky(block)

    y_star = solve(factor, z)
    residual = tf.where(missing, tf.zeros_like(y), y - y_star)
    residual -= solve(block_factor, unknown * tf.linalg.matvec(matrix, residual))
    y_hat = y_star + residual
    q = tf.reduce_sum(residual * tf.linalg.matvec(matrix, residual), axis=1)
    log_determinant = log_of_determinant(factor) - log_of_determinant(block_factor)

    def gradient(by_q, by_log):
        block_inverse = inverse(block_factor) * unknown[:, :, None] * unknown[:, None, :]
        by_weights = by_q[:, None] * (difference(y_hat, pairs) ** 2 - difference(y_star, pairs) ** 2)
        by_determinant = variance_of_difference(inverse(factor), pairs) - variance_of_difference(block_inverse, pairs)
        by_weights += by_log[:, None] * by_determinant
        return -2 * by_q[:, None] * residual, by_weights, None, None, None

    return (q, log_determinant), gradient


def log_of_determinant(factor: tf.Tensor) -> tf.Tensor:
    """Return log|LLᵀ|, [B], for the Cholesky factor L [B, n, n]."""
    return 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), axis=1)


def negative_log_likelihood(
    q: tf.Tensor, log_determinant: tf.Tensor, measured: tf.Tensor, tau: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """-log Pr(measured y | photo), [B], from `likelihood_terms` and the number of measured superpixels, float [B]."""
    return tau * q - 0.5 * log_determinant + 0.5 * measured * (math.log(math.pi) - tf.math.log(tau))


def best_tau(q: float, measured: float) -> float:
    """Return the most likely τ, n / 2q, from the sums of q and of measured superpixels over held-out photos."""
    return measured / max(2 * q, 1e-12)
