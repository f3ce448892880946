"""The network of the recipe demo and its loss, in PyTorch.

Layers, their sizes and what they begin with are those of lib/depthfield/network, and so is the number of parameters.
One difference, without effect on the cost: a convolution at stride 2 pads evenly, where TensorFlow pads at the end.
Maps are [B, C, h, w], stored with the channels last.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

FINEST = 2  # the index in widths of the first map that is pooled from: stride 8
FEATURES, DENSE, SIMILARITIES = 64, (64, 32), ("texture", "histogram", "colour")


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution, begun as He et al. 2015."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def dense(inputs: int, outputs: int) -> nn.Linear:
    """A dense layer, begun as Glorot and Bengio 2010."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, width, eps=1e-3)


class Residual(nn.Module):
    """x + conv(relu(norm(conv(x)))), then relu."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.norm, self.second = conv(width, width, 3), norm(width), conv(width, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.second(functional.relu(self.norm(self.first(x)))))


class Network(nn.Module):
    """A batch (see train.batch) to its loss: encoder, maps brought together, pooling, z, and the field's answer."""

    def __init__(self, widths: list[int], start: float):
        """`widths` of the maps, each at half the size of the one before; z begins near `start`, in log metres."""
        super().__init__()
        self.down = nn.ModuleList(
            conv(before, width, 3 if index else 5, 2)
            for index, (before, width) in enumerate(zip([3, *widths[:-1]], widths, strict=True))
        )
        self.norms = nn.ModuleList(norm(width) if index else nn.Identity() for index, width in enumerate(widths))
        self.blocks = nn.ModuleList(Residual(width) for width in widths[FINEST:])
        self.laterals = nn.ModuleList(conv(width, FEATURES, 1) for width in widths[FINEST:])
        self.context, self.merge = dense(widths[-1], FEATURES), conv(FEATURES, FEATURES, 3)
        sizes = [FEATURES + 2, *DENSE]
        self.dense = nn.ModuleList(dense(*pair) for pair in pairwise(sizes))
        self.last = nn.Linear(DENSE[-1], 1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias, start)
        self.beta = nn.Parameter(torch.ones(len(SIMILARITIES)))

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The mean squared error of the field's answer in log depth, over the measured superpixels of a batch."""
        z = torch.where(batch["present"], self.z(batch), 0.0)
        weights = batch["similarities"] @ self.beta.clamp(min=0)
        error = (Answer.apply(z, weights, batch["ends"]) - batch["log_depth"])[batch["measured"]]
        return error.square().mean()

    def z(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """z, float32 [B, n]."""
        x = batch["image"].permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        maps = []
        for index, (down, normal) in enumerate(zip(self.down, self.norms, strict=True)):
            x = functional.relu(normal(down(x)))
            if index >= FINEST:
                x = self.blocks[index - FINEST](x)
                maps.append(x)
        merged = self.context(maps[-1].mean(dim=(2, 3)))[:, :, None, None]
        for lateral, fine in zip(reversed(self.laterals), reversed(maps), strict=True):
            merged = lateral(fine) + functional.interpolate(merged, size=fine.shape[2:])
        merged = functional.relu(self.merge(functional.relu(merged))).permute(0, 2, 3, 1)
        x = pool(torch.cat([merged, positions(merged)], dim=-1), batch)
        for layer in self.dense:
            x = functional.relu(layer(x))
        return self.last(x)[..., 0]


def positions(features: torch.Tensor) -> torch.Tensor:
    """Row and column of each cell from -1 to 1, float32 [B, h, w, 2], for features [B, h, w, C]."""
    count, rows, columns = features.shape[:3]
    grid = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    return torch.stack(grid, dim=-1).expand(count, -1, -1, -1)


def pool(features: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean features of each superpixel, [B, n, C], from features [B, h, w, C] and a batch's meetings [E]."""
    count, places = batch["present"].shape
    met = features.flatten(0, 2).index_select(0, batch["cell"]) * batch["share"][:, None]
    return met.new_zeros(count * places, met.shape[1]).index_add(0, batch["owner"], met).view(count, places, -1)


class Answer(torch.autograd.Function):
    """y* = A⁻¹z, [B, n], for z [B, n], the weights of all pairs of the batch [m], and their ends [2, m] in z flattened.

    One Cholesky factorisation serves the answer and its gradients (see lib/depthfield/field/random_field.py).
    """

    @staticmethod
    def forward(ctx, z: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        count = z.shape[1]
        p, q = ends
        matrix = torch.eye(count).repeat(len(z), 1, 1)
        entries = torch.cat([row * count + column % count for row, column in ((p, p), (q, q), (p, q), (q, p))])
        matrix.view(-1).index_add_(0, entries, torch.cat([weights, weights, -weights, -weights]))
        factor = torch.linalg.cholesky(matrix)
        y = torch.cholesky_solve(z[..., None], factor)[..., 0]
        ctx.save_for_backward(factor, y, ends)
        return y

    @staticmethod
    def backward(ctx, upstream: torch.Tensor):
        factor, y, ends = ctx.saved_tensors
        by_z = torch.cholesky_solve(upstream[..., None], factor)[..., 0]
        return by_z, -difference(by_z, ends) * difference(y, ends), None


def difference(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """values_p - values_q of each pair, [m], for values [B, n] and the pairs' ends [2, m]."""
    p, q = values.reshape(-1).index_select(0, ends.flatten()).view(2, -1)
    return p - q
