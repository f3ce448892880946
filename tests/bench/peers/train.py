"""Train the network of the recipe demo with PyTorch for some seconds, and tell how fast that is.

The last line of rank 0 is JSON: {"way", "photos_per_second" of all ranks together, "seconds_a_step", "parameters",
"steps"}. It needs torch and numpy, diloco torchft too, and nothing of this project. Each rank is one process with one
thread, and fails when it has waited for another one for two minutes:

    train.py --patches data/rooms/patches --way single
    train.py --patches data/rooms/patches --way ddp --rank 0 --world 2 --master 127.0.0.1:29500   # and --rank 1
"""

import argparse
import json
import math
import os
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch.distributed as dist
from network import FINEST, SIMILARITIES, Network
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

PHOTOS = 64  # at most so many are read, and kept decoded
PATIENCE = timedelta(seconds=120)  # for another rank, then this one fails
CHUNK = 8  # steps between looks at the clock, where no period is given
ROUNDS = 3  # periods that are measured at least


def read(path: Path) -> dict[str, torch.Tensor]:
    """One photo of n superpixels and m pairs, as `batch` takes it.

    Each meeting of a superpixel (owner) with a cell of the finest map has its share of the superpixel's pixels, so
    that pooling is a sum over the E meetings of a photo.
    """
    with np.load(path) as file:
        image, superpixels, depth = file["image"], file["superpixels"].astype(np.int64), file["depth"]
        pairs, similarities, names = file["pairs"], file["similarities"], file["similarity_names"].tolist()
    height, width = (-(-side // 2 ** (FINEST + 1)) for side in superpixels.shape)
    rows, columns = (np.arange(a) * b // a for a, b in zip(superpixels.shape, (height, width), strict=True))
    key = superpixels * (height * width) + rows[:, None] * width + columns
    met, pixels = np.unique(key, return_counts=True)
    owner, cell = np.divmod(met, height * width)
    measured = depth > 0
    arrays = {
        "image": image,
        "owner": owner,
        "cell": cell,
        "share": (pixels / np.bincount(superpixels.ravel())[owner]).astype(np.float32),
        "ends": pairs.T.astype(np.int64),
        "similarities": similarities[:, [names.index(name) for name in SIMILARITIES]],
        "log_depth": np.log(np.where(measured, depth, 1)).astype(np.float32),
        "measured": measured,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()} | {
        "cells": torch.tensor(height * width)
    }


def batch(photos: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Photos of one size as one batch: image uint8 [B, H, W, 3]; log_depth, measured, present [B, n]; the meetings
    owner, cell and share [E] and the pairs' ends [2, m] and similarities [m, K] of all photos, one after the other."""
    most = max(len(photo["measured"]) for photo in photos)
    cells = int(photos[0]["cells"])
    fields = {field: [photo[field] for photo in photos] for field in photos[0]}
    padded = {"present": [torch.ones_like(x) for x in fields["measured"]], **fields}
    return {
        "image": torch.stack(fields["image"]),
        "owner": torch.cat([x + index * most for index, x in enumerate(fields["owner"])]),
        "cell": torch.cat([x + index * cells for index, x in enumerate(fields["cell"])]),
        "ends": torch.cat([x + index * most for index, x in enumerate(fields["ends"])], dim=1),
        **{field: torch.cat(fields[field]) for field in ("share", "similarities")},
        **{
            field: torch.stack([torch.nn.functional.pad(x, (0, most - len(x))) for x in padded[field]])
            for field in ("log_depth", "measured", "present")
        },
    }


def adam(parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """AdamW, its decay 1e-2 of matrices alone."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 1e-2},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def agree(flag: bool, world: int) -> bool:
    """What rank 0 says, once all ranks are here."""
    if world == 1:
        return flag
    told = torch.tensor(int(flag and dist.get_rank() == 0))
    dist.all_reduce(told)
    return bool(told)


def measure(step: Callable[[], None], options: argparse.Namespace) -> tuple[int, float]:
    """Steps and seconds, of whole chunks, after a warm-up of whole chunks; the same number on all ranks."""
    periodic = options.way in ("local-sgd", "diloco")
    chunk = options.every if periodic else CHUNK

    def run(least: int, seconds: float) -> tuple[int, float]:
        begun, chunks, over = time.perf_counter(), 0, False
        while not over:
            for _ in range(chunk):
                step()
            chunks += 1
            over = agree(chunks >= least and time.perf_counter() - begun >= seconds, options.world)
        return chunks * chunk, time.perf_counter() - begun

    run(1, options.warmup)
    return run(ROUNDS if periodic else 1, options.seconds)


def diloco(model: torch.nn.Module, optimizer: torch.optim.Optimizer, options: argparse.Namespace) -> tuple:
    """torchft's DiLoCo on `optimizer`, its outer optimizer that of Douillard et al. 2023; what has to be kept alive.

    Each rank is a replica of its own. Rank 0 has the lighthouse that they all report to.
    """
    from torchft import Manager, ProcessGroupGloo
    from torchft.coordination import LighthouseServer
    from torchft.local_sgd import DiLoCo

    host, port = options.master.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        here = connection.getsockname()[0]
    lighthouse = LighthouseServer(bind=f"{here}:0", min_replicas=options.world) if options.rank == 0 else None
    told = [f"http://{here}:{lighthouse.address().rsplit(':', 1)[1]}" if lighthouse else None]
    dist.broadcast_object_list(told)
    store = dist.TCPStore(here, 0, is_master=True, timeout=PATIENCE)
    manager = Manager(
        pg=ProcessGroupGloo(PATIENCE),
        load_state_dict=model.load_state_dict,
        state_dict=model.state_dict,
        min_replica_size=options.world,
        use_async_quorum=False,
        timeout=PATIENCE,
        quorum_timeout=PATIENCE,
        rank=0,
        world_size=1,
        store_addr=here,
        store_port=store.port,
        lighthouse_addr=told[0],
        replica_id=f"rank{options.rank}",
        hostname=here,
        init_sync=False,
    )
    outer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9, nesterov=True)
    return DiLoCo(manager, [model], optimizer, outer, options.every).__enter__(), manager, store, lighthouse


def main(options: argparse.Namespace) -> NoReturn:
    """Train and tell, then leave; the exit status is 1 where the loss is not finite."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    folder = options.patches / "train" if (options.patches / "train").is_dir() else options.patches
    photos = [read(path) for path in sorted(folder.glob("*.npz"))[:PHOTOS]]
    if not photos:
        raise SystemExit(f"{folder}: no patch files")
    start = torch.cat([photo["log_depth"][photo["measured"]] for photo in photos]).mean().item()
    torch.manual_seed(options.seed)
    model = Network(options.widths, start).to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimizer = adam(parameters, options.rate)
    draw = np.random.default_rng([options.seed, options.rank])
    loss_of, after = model, lambda: None
    if options.world > 1:
        address = f"tcp://{options.master}"
        dist.init_process_group("gloo", address, PATIENCE, rank=options.rank, world_size=options.world)
    if options.way == "ddp":
        loss_of = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    elif options.way == "local-sgd":
        averager = PeriodicModelAverager(options.every)

        def after() -> None:
            averager.average_parameters(parameters)
            model.to(memory_format=torch.channels_last)  # averaged parameters have lost their layout

    elif options.way == "diloco":
        kept = diloco(model, optimizer, options)  # noqa: F841, it works from the optimizer's hooks

    losses = []

    def step() -> None:
        loss = loss_of(batch([photos[index] for index in draw.choice(len(photos), options.batch, replace=False)]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.beta.clamp_(min=0)
        after()
        losses.append(loss.item())

    steps, seconds = measure(step, options)
    if options.rank == 0:
        print(f"loss {np.mean(losses[:CHUNK]):.4f} at first, {np.mean(losses[-CHUNK:]):.4f} at last", flush=True)
        told = {
            "way": options.way,
            "photos_per_second": steps * options.batch * options.world / seconds,
            "seconds_a_step": seconds / steps,
            "parameters": sum(p.numel() for p in parameters),
            "steps": steps,
        }
        print(json.dumps(told), flush=True)
    # At once: taking process groups down, PyTorch may hang, and all ranks are done with them here.
    os._exit(0 if math.isfinite(losses[-1]) else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=Path, required=True, help="FOLDER/train/*.npz, or else FOLDER/*.npz")
    parser.add_argument("--widths", type=lambda text: [int(x) for x in text.split(",")], default=[24, 48, 64, 96, 128])
    parser.add_argument("--batch", type=int, default=2, help="photos a step of one rank")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warmup", type=float, default=5, help="seconds before those that are measured")
    parser.add_argument("--way", choices=("single", "ddp", "local-sgd", "diloco"), default="single")
    parser.add_argument("--every", type=int, default=32, help="steps of a period of local-sgd and diloco")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--master", default="127.0.0.1:29500", help="HOST:PORT, where rank 0 listens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if (options.way == "single") != (options.world == 1):
        parser.error("single is of one rank, all others of several")
    return options


if __name__ == "__main__":
    try:
        main(arguments())
    except Exception:
        traceback.print_exc()
        os._exit(1)
