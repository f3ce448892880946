"""What the training photos are: how many, made how, which are held out, how deep on average."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthfield import files
from depthfield.records import batches, shards
from depthfield.records.patches import Settings
from depthfield.tool import Failure


class Survey(NamedTuple):
    photos: int
    held_out: int  # how many of them are for validation
    held_out_key: int  # those whose records.batches.held_out_key does not exceed this
    mean_depth: float  # metres, over all measured pixels of all photos: the baseline of score-depth
    mean_log_depth: float  # of log metres, over measured superpixels
    settings: str  # records.patches.Settings as JSON, of the first photo


def survey(paths: Sequence[Path], share: float) -> Survey:
    """Read all examples of the training shards once and hold out `share` of them for validation.

    Raises Failure for a shard that cannot be read, photos made with different similarities or superpixels, or none
    with a measured depth.
    """
    keys, settings = [], None
    metres, pixels, logs, superpixels = 0.0, 0, 0.0, 0
    for example in shards.read(paths, ("source", "settings", "depth", "depth_map")):
        made = Settings.from_json(example["settings"].decode())
        settings = settings or made
        if made[:2] != settings[:2]:
            raise Failure(
                f"{example['source'].decode()}: made with superpixels {made.superpixels} and similarities "
                f"{','.join(made.similarities)}, the photos before it with {settings.superpixels} and "
                f"{','.join(settings.similarities)}; make all patches alike (make-patches --force)"
            )
        keys.append(int(batches.held_out_key(example["source"])))
        depths, log_depths = (
            example["depth_map"][example["depth_map"] > 0],
            np.log(example["depth"][example["depth"] > 0]),
        )
        metres, pixels = metres + depths.sum(dtype=np.float64), pixels + depths.size
        logs, superpixels = logs + log_depths.sum(dtype=np.float64), superpixels + log_depths.size
    if not superpixels:
        raise Failure("the shards hold no photo with a measured depth")
    held_out = round(share * len(keys)) if len(keys) > 1 else 0
    key = sorted(keys)[held_out - 1] if held_out else -1
    return Survey(len(keys), held_out, key, metres / pixels, logs / superpixels, settings.to_json())


def write(path: Path, survey: Survey) -> None:
    files.write_json(path, survey._asdict())


def read(path: Path) -> Survey:
    """The survey of a run; Failure where there is none."""
    try:
        return Survey(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise Failure(f"{path.parent}: not a run of train-depth ({path.name} is missing)") from None
    except (ValueError, TypeError) as error:
        raise Failure(f"{path}: damaged: {error}") from None
