"""The hosts that a cluster may use: read from a list, or this machine."""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from depthfield.tool import Failure, cores

LINE = "host slots [gpus] [memory]"
HERE = "127.0.0.1"  # works without a name service, whatever this machine's name is
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Host(NamedTuple):
    """A host and what we may use of it."""

    name: str
    slots: int
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them
    memory: int = 0  # bytes; 0 if unknown


def read(lines: Iterable[str]) -> list[Host]:
    """Read a list of hosts; a # starts a comment, and a host on several lines is added up.

    Raises Failure, with the line number, if a line is not `host slots [gpus] [memory]`.
    """
    totals: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            name, slots, gpus, memory = fields + ["0"] * (4 - len(fields))
            found = [int(slots), int(gpus), size(memory)]
            if found[0] < 1 or found[1] < 0:
                raise ValueError
        except ValueError:
            raise Failure(f"line {number} of the hosts is {line.strip()!r}; expected `{LINE}`, slots >= 1") from None
        total = totals.setdefault(name, [0, 0, 0])
        totals[name] = [sum(pair) for pair in zip(total, found, strict=True)]
    return [Host(name, slots, numbered(gpus), memory) for name, (slots, gpus, memory) in totals.items()]


def size(text: str) -> int:
    """Convert `64G`, `512M`, `1.5T` or a plain number to bytes; raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text.upper())
    if not match:
        raise ValueError(text)
    return int(float(match[1]) * UNITS[match[2]])


def numbered(gpus: int) -> tuple[str, ...]:
    """Return names for this number of GPUs of one host."""
    return tuple(map(str, range(gpus)))


def this_machine() -> Host:
    """Return this machine: the cores and GPUs that this process may use, and its memory."""
    return Host(HERE, cores(), visible_gpus(), psutil.virtual_memory().total)


def visible_gpus() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use, from the driver: importing TensorFlow would take seconds."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",")]
        return tuple(name for name in names if name not in ("", "-1"))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
        return numbered(len(re.findall(r"^GPU \d+:", listing, re.MULTILINE)))
    except (OSError, subprocess.TimeoutExpired):
        cards = Path("/proc/driver/nvidia/gpus")
        return numbered(len(list(cards.iterdir())) if cards.is_dir() else 0)
