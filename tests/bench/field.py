"""make bench-field: what the recipes and the field reach, beside their bars.

Its parts can be had alone: make bench-field PARTS="parts rooms". What was trained is kept in build/bench/field and not
trained again. The photos of tabletop and office are no part of the project: REAL is the folder that has theirs.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from shell import PROJECT, options

from bench import report
from bench.parts import parts, published
from bench.report import Row
from depthfield import scoring
from depthfield.training import checkpoints
from depthfield.training import recipe as recipes

HERE = report.results("field")
SEEDS = (0, 1, 2)
COMPARED = {"rooms": 4000, "tabletop": 2000}  # steps of the trainings of dcnf-small, of which losses are compared
DIVISION = {  # what make-patches is told
    "rooms": [], "cells": ["--superpixels", "grid:40"], "four": ["--limit", 4],
    "tabletop": ["--width", 320], "office": ["--width", 320],
}  # fmt: skip


def done(name: str, *words: object, **how) -> str:
    """Run a command of bin/ to its end; its stdout."""
    command = [str(PROJECT / "bin" / name), *map(str, words)]
    print("bench-field:", name, *(word for word in map(str, words) if "tfrecord" not in word), file=sys.stderr)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **how).stdout


def shards(dataset: str, split: str) -> list[Path]:
    """The records of a dataset, made if need be."""
    home = HERE / "data" / dataset
    if dataset in ("rooms", "cells", "four"):
        raw = done("fetch-dataset", "--data", HERE / "data", "rooms").strip()
        division = ["--reader", "nyu"]
    else:
        raw, division = Path(os.environ.get("REAL", "nowhere")) / dataset, []
        if not raw.is_dir():
            sys.exit(f"bench-field: {dataset} needs REAL, the folder that has {dataset}/")
    made = done("make-patches", *division, *DIVISION[dataset], "--out", home / "patches", raw)
    done("to-tfrecord", "--out", home / "records", input=made)
    return sorted((home / "records").glob(f"{split}-*"))


def trained(name: str, dataset: str, *settings: str, recipe: str = "small", init: Path | None = None) -> Path:
    """A run trained to its end; where it was interrupted it goes on."""
    run = HERE / name
    words = ["--recipe", recipe, "--run", run, *options(settings), *(["--init", init] if init else [])]
    done("train-depth", *words, *shards(dataset, "train"))
    return run


def scores(run: Path, dataset: str, fill: str = "smooth") -> dict:
    """The scores on the test photos, pooled over pixels, the ratio of rel to the mean depth's, and the calibration."""
    saved = run / f"scores-{fill}.json"
    if not saved.exists():
        done("score-depth", "--run", run, "--fill", fill, "--save", saved, *shards(dataset, "test"))
    told = json.loads(saved.read_text())
    field, mean = (told[kind]["pooled over pixels"] for kind in ("field", "mean depth"))
    within = {f"within {number}": told["field"][f"within {number} σ"] for number in (1, 2)}
    return field | within | {"ratio": field["rel"] / mean["rel"], "mean rel": mean["rel"]}


def lines(run: Path, kind: str) -> list[dict]:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in told if line["kind"] == kind]


def minutes(run: Path) -> float:
    """From the first line of metrics to the last, and the ten seconds before the first."""
    times = [line["time"] for kind in ("training", "validation") for line in lines(run, kind)]
    return (max(times) - min(times) + 10) / 60


def compared(dataset: str, loss: str, seed: int) -> Path:
    """A run of the comparison of losses: alike in all but the loss and the seed.

    The network is the paper's first, sized for two cores: `small` gains nothing by the field (lib/recipes/README.md).
    """
    sets = [f"loss={loss}", f"steps={COMPARED[dataset]}", f"seed={seed}"]
    return trained(f"{dataset}-{loss}-{seed}", dataset, *sets, recipe="dcnf-small")


def field() -> list[Row]:
    """The field against the unary alone: the same network, steps and seeds."""
    rows = []
    for dataset in COMPARED:
        means = {}
        for loss in ("answer", "unary"):
            each = [scores(compared(dataset, loss, seed), dataset) for seed in SEEDS]
            means[loss] = {metric: statistics.mean(one[metric] for one in each) for metric in ("rel", "rms")}
        for metric in ("rel", "rms"):
            better = 1 - means["answer"][metric] / means["unary"][metric]
            told = f"{metric} {means['answer'][metric]:.3f}, unary alone {means['unary'][metric]:.3f}"
            least = 0.12 if dataset == "rooms" else 0.0
            rows.append(Row(f"field against unary on {dataset}, share better: {told}", better, least, least=True))
    return rows


def losses() -> list[Row]:
    """Every loss there is, one seed each; the rows of answer and unary are runs of `field`."""
    rows = []
    for loss in recipes.CHOICES["loss"]:
        found = scores(compared("rooms", loss, 0), "rooms")
        told = f"rms {found['rms']:.3f}, delta 1.25 {found['delta1']:.3f}, {found['within 1']:.0%} within 1 σ"
        rows.append(Row(f"loss {loss} on rooms: {told}; rel to that of the mean depth", found["ratio"], 1))
    return rows


def again() -> list[Row]:
    """Two trainings with one seed: the greatest difference of a parameter, beside the greatest of its tensor."""
    first, second = (trained(f"again-{number}", "rooms", "steps=104", "validation_steps=1000") for number in (1, 2))
    before, after = (checkpoints.newest(run / "checkpoints").values for run in (first, second))
    worst = max(np.abs(before[key] - after[key]).max() / max(np.abs(before[key]).max(), 1e-6) for key in before)
    return [Row("one seed twice, 104 steps: greatest difference of a number, relative", float(worst), 1e-4)]


def rooms() -> list[Row]:
    run = trained("rooms", "rooms")
    found, authors = scores(run, "rooms"), scores(run, "rooms", "colourise")
    return [
        Row("small on rooms, minutes", minutes(run), 60),
        Row("small on rooms, test rel to that of the mean depth", found["ratio"], 0.38),
        Row("small on rooms, delta 1.25", found["delta1"], 0.72, least=True),
        Row("the same by the fast fill, rel; bar: by colourisation", found["rel"], authors["rel"]),
        Row("share of pixels within 1 σ, off a Gaussian's 0.683", abs(found["within 1"] - 0.683), 0.1),
        Row("share of pixels within 2 σ, off a Gaussian's 0.954", abs(found["within 2"] - 0.954), 0.1),
    ]


def tabletop() -> list[Row]:
    run = trained("tabletop", "tabletop", "steps=6000")
    return [
        Row("small on tabletop, minutes", minutes(run), 20),
        Row("small on tabletop, test rel to that of the mean depth", scores(run, "tabletop")["ratio"], 0.22),
    ]


def office() -> list[Row]:
    rooms = trained("rooms", "rooms")
    run = trained("office", "office", "steps=6000", init=rooms)
    return [
        Row("small on office, begun with that of rooms, minutes", minutes(run), 30),
        Row("small on office, test rel to that of the mean depth", scores(run, "office")["ratio"], 0.9),
    ]


def seed() -> list[Row]:
    """The tuned-down variant, and the network of demo beside it, trained for a tenth of its time."""
    run, short = trained("seed", "cells", recipe="seed"), trained("short", "rooms", "steps=600", recipe="demo")
    losses = [line["loss"] for line in lines(run, "training")]
    quarters = [statistics.mean(losses[len(losses) * q // 4 : len(losses) * (q + 1) // 4]) for q in range(4)]
    rises = sum(later >= earlier for earlier, later in itertools.pairwise(quarters))
    found, beside = scores(run, "cells"), scores(short, "rooms")
    no_better = sum(
        beside[metric] <= found[metric] if metric.startswith("delta") else beside[metric] >= found[metric]
        for metric in scoring.METRICS
    )
    told = ", ".join(f"{metric} {beside[metric]:.3f} to {found[metric]:.3f}" for metric in scoring.METRICS)
    return [
        Row("seed, rises of its loss from quarter to quarter", rises, 0),
        Row("seed, test rel to that of the mean depth", found["ratio"], 1),
        Row(f"minutes of 600 steps of demo to seed's ({minutes(run):.1f})", minutes(short) / minutes(run), 0.1),
        Row(f"metrics in which they are no better than seed ({told})", no_better, 0),
    ]


def overfit() -> list[Row]:
    """Four photos by heart; rel over their superpixels, which the networks answer for."""
    rows = []
    for recipe, sets in OVERFITTED.items():
        run = trained(f"overfit-{recipe}", "four", *sets, "validation_share=0", "mirror=false", recipe=recipe)
        found = lines(run, "validation")[-1]["rel"]
        rows.append(Row(f"{recipe} on the four photos it was trained on, rel over superpixels", found, 0.03))
    return rows


OVERFITTED = {
    "small": ["steps=2000", "turn=0"],
    "fcsp": ["steps=500", "optimizer=adam", "learning_rate=1e-4"],
}
PARTS = {"again": again, "overfit": overfit, "parts": parts, "published": published, "seed": seed, "field": field}
PARTS |= {"losses": losses, "rooms": rooms, "tabletop": tabletop, "office": office}


def main() -> int:
    asked = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS]:
        sys.exit(f"bench-field: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return report.tell("field", [row for name in asked for row in PARTS[name]()], {"parts": asked})


if __name__ == "__main__":
    sys.exit(main())
