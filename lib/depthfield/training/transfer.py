"""Start training with weights from elsewhere: from another run, or a backbone trained on ImageNet."""

import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from depthfield import files, tool
from depthfield.network import encoders
from depthfield.network.model import DepthField
from depthfield.tool import Failure, say
from depthfield.training import checkpoints, survey
from depthfield.training import recipe as recipes
from depthfield.training.survey import Survey

RECORD = "init.json"  # in a run: the source of its weights, and the paths of those taken


def begin(model: DepthField, where: str, photos: Survey, run: Path) -> None:
    """Take weights from `where` for the model of `run`, report which were taken, and record them.

    `where` is the folder of a run whose photos were made like `photos`; a file, `.weights.h5`, `.h5` or `.keras`, of
    the model of keras.applications that is the encoder; or "imagenet", to download them. Raises Failure if none fit.
    """
    own = (model.tau.path, model.scale.path)  # these are set on the held-out photos of this run
    variables = {variable.path: variable for variable in model.variables if variable.path not in own}
    found = of_run(Path(where), photos, run) if Path(where).is_dir() else of_backbone(model, where)
    fits = {path for path, value in found.items() if path in variables and variables[path].shape == value.shape}
    if not fits:
        raise Failure(f"{where}: no weights fit this recipe's network; use the recipe that they belong to")
    for path in fits:
        variables[path].assign(found[path])
    for name, paths in (("taken", fits), ("not taken, initialised", variables.keys() - fits)):
        if paths:
            say(f"weights {name}: {', '.join(layers_of(paths))}")
    files.write_json(run / RECORD, {"from": where, "taken": sorted(fits)})


def frozen(model: DepthField, run: Path) -> set[str]:
    """Return the paths of the encoder's weights that were taken from elsewhere when `run` started."""
    record = run / RECORD
    if not record.exists():
        return set()
    return set(json.loads(record.read_text())["taken"]) & {v.path for v in model.network.encoder.trainable_variables}


def layers_of(paths) -> list[str]:
    """Return the names of the layers that variables belong to."""
    return sorted({path.removeprefix("field/").rpartition("/")[0] or path for path in paths})


def of_run(other: Path, photos: Survey, run: Path) -> Mapping[str, np.ndarray]:
    """Return the values of another run's model by path."""
    newest = checkpoints.newest(other / "checkpoints")
    if newest is None:
        raise Failure(f"{other}: no checkpoint to start from; train it first")
    its = survey.read(other)
    if not its.like(photos):
        raise Failure(f"{other}: trained on photos with {its.made_with()}, not with {photos.made_with()} as {run}")
    values = dict(newest.values)
    names, own = (recipes.load(str(folder / "recipe.toml")).similarities for folder in (other, run))
    if names != own:
        say(f"{other}: its field has the similarities {','.join(names)}, not {','.join(own)}; β is initialised")
        values.pop("field/beta", None)
    return values


def of_backbone(model: DepthField, where: str) -> dict[str, np.ndarray]:
    """Return weights by path of the encoder's variables, from a file of keras.applications or a download."""
    name, encoder = getattr(model.network, "application", None), model.network.encoder
    if name is None:
        raise Failure(f"{where}: this recipe's network has no backbone of keras.applications; start from a run instead")
    source = {layer.name: layer.get_weights() for layer in backbone(name, where).layers}
    found = {}
    for layer in encoder.layers:
        weights = zip(layer.weights, source.get(layer.name, []), strict=False)  # only fitting shapes are taken
        found |= {variable.path: value for variable, value in weights}
    return found


def backbone(name: str, where: str) -> keras.Model:
    """Return the model `name` of keras.applications with the weights of a file, or of "imagenet"."""
    if where != "imagenet" and not Path(where).is_file():
        raise Failure(f"{where}: no such run or file, and not the word imagenet")
    problem = None
    with tool.hushed():
        try:
            if where.endswith(".keras"):
                return keras.models.load_model(where, compile=False)
            if where == "imagenet":
                return encoders.whole(name, where)
        except Exception as error:  # Keras raises many errors: no network, another format, a custom layer
            problem = error
        for top in (False, True) if problem is None else ():
            try:
                whole = encoders.whole(name, None, top)
                whole.load_weights(where)
                return whole
            except Exception as error:
                problem = problem or error
    raise Failure(f"{where}: no weights of {name}: {str(problem).splitlines()[0]}")
