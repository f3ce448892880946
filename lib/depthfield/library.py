"""Training from a Python program, as train-depth does it."""

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from depthfield import tool
from depthfield.training import checkpoints, chief
from depthfield.training import recipe as recipes


def train(
    recipe: str,
    run: str | Path,
    shards: Iterable[str | Path],
    settings: Sequence[str] = (),
    init: str | None = None,
) -> Path:
    """
    Train a recipe on records, in this process.

    A run that has a checkpoint goes on from it. Progress goes to stderr. SIGTERM and Ctrl-C end the training early,
    with everything saved; as only the main thread may handle signals, call this from there.

    Parameters
    ----------
    recipe : str
        Name of a recipe, such as "small", or path of a .toml file.
    run : str or Path
        Folder of the run; it is made if need be.
    shards : iterable of str or Path
        TFRecord files, as ``to-tfrecord`` makes them.
    settings : sequence of str, optional
        Changes to the recipe, such as ``["steps=2000", "batch_size=4"]``.
    init : str, optional
        Weights to begin with: another run, a Keras file, or "imagenet".

    Returns
    -------
    checkpoint : Path
        The newest checkpoint.

    Raises
    ------
    depthfield.Failure
        If a recipe, a setting or a shard is wrong, the run cannot go on, another process trains it, or a signal ended
        the training early.
    KeyboardInterrupt
        After Ctrl-C.

    Examples
    --------
    >>> from pathlib import Path
    >>> from depthfield import train
    >>> train("small", "runs/first", Path("data/rooms/records").glob("train-*.tfrecord"))
    """
    run = Path(run)
    before = {number: signal.getsignal(number) for number in chief.SIGNALS}
    try:
        loaded = recipes.load(recipe, list(settings))
        status = chief.train(loaded, run, sorted(map(Path, shards)), cluster=None, end=None, init=init)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status == tool.INTERRUPTED:
        raise KeyboardInterrupt
    if status == tool.RUN_ME_AGAIN:
        raise tool.Failure(f"{run}: stopped early by a signal, with everything saved; train it again to go on")
    return checkpoints.found(run / "checkpoints")[-1]
