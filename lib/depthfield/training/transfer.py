"""Start training with weights from elsewhere: from another run, an exported model, or a backbone of ImageNet."""

import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from depthfield import files, tool
from depthfield.network import encoders
from depthfield.network.model import DepthField
from depthfield.tool import Failure, inform, say
from depthfield.training import checkpoints, survey
from depthfield.training import recipe as recipes
from depthfield.training.survey import Survey

RECORD = "init.json"  # in a run: the source of its weights, and the paths of those taken


def begin(model: DepthField, where: str, photos: Survey, run: Path) -> None:
    """Take weights from `where` for the model of `run`, report which were taken, and record them.

    `where` is the folder of a run whose photos were made like `photos`; a `.keras` file of export-model; a file,
    `.weights.h5`, `.h5` or `.keras`, of the model of keras.applications that is the encoder; or "imagenet", to download
    them. Raises Failure if none fit.
    """
    found = of_run(Path(where), photos, run) if Path(where).is_dir() else of_file(model, where)
    variables, fits = fitting(model, found, where)
    for path in fits:
        variables[path].assign(found[path])
    for name, paths in (("taken", fits), ("not taken, initialised", variables.keys() - fits)):
        if paths:
            inform(f"weights {name}: {', '.join(layers_of(paths))}")
    files.write_json(run / RECORD, {"from": where, "taken": sorted(fits)})


def check(model: DepthField, where: str) -> None:
    """Raise Failure, as `begin` does, unless `where` has weights that fit; of a run, its photos are not compared."""
    fitting(model, checkpoint_of(Path(where)).values if Path(where).is_dir() else of_file(model, where), where)


def fitting(
    model: DepthField, found: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, keras.Variable], set[str]]:
    """Return the model's variables that may begin with other weights, by path, and the paths of those `found` fit.

    Raises Failure if none fit.
    """
    own = (model.tau.path, model.scale.path)  # these are set on the held-out photos of this run
    variables = {variable.path: variable for variable in model.variables if variable.path not in own}
    fits = {path for path, value in found.items() if path in variables and variables[path].shape == value.shape}
    if not fits:
        raise Failure(f"{where}: no weights fit this recipe's network; use the recipe that they belong to")
    return variables, fits


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
    newest = checkpoint_of(other)
    its = survey.read(other)
    if not its.like(photos):
        raise Failure(f"{other}: trained on photos with {its.made_with()}, not with {photos.made_with()} as {run}")
    values = dict(newest.values)
    names, own = (recipes.load(str(folder / "recipe.toml")).similarities for folder in (other, run))
    if names != own:
        say(f"{other}: its field has the similarities {','.join(names)}, not {','.join(own)}; β is initialised")
        values.pop("field/beta", None)
    return values


def checkpoint_of(other: Path) -> checkpoints.Checkpoint:
    """Return the newest checkpoint of another run."""
    newest = checkpoints.newest(other / "checkpoints")
    if newest is None:
        raise Failure(f"{other}: no checkpoint to start from; train it first")
    return newest


def of_file(model: DepthField, where: str) -> dict[str, np.ndarray]:
    """Return weights by path of the model's variables, from an exported model or a backbone's file or download."""
    whole = opened(where) if where.endswith(".keras") and Path(where).is_file() else None
    if isinstance(whole, DepthField):
        values = {variable.path: variable.numpy() for variable in whole.variables}
        theirs, ours = (json.loads(one.design)["similarities"] for one in (whole, model))
        return values if theirs == ours else {path: values[path] for path in values if path != "field/beta"}
    name, encoder = getattr(model.network, "application", None), model.network.encoder
    if name is None:
        raise Failure(f"{where}: this recipe's network has no backbone of keras.applications; start from a run instead")
    source = {layer.name: layer.get_weights() for layer in (whole or backbone(name, where)).layers}
    found = {}
    for layer in encoder.layers:
        weights = zip(layer.weights, source.get(layer.name, []), strict=False)  # only fitting shapes are taken
        found |= {variable.path: value for variable, value in weights}
    return found


def opened(where: str) -> keras.Model:
    """Return the model of a `.keras` file."""
    with tool.hushed(f"loading {where}"):
        try:
            return keras.models.load_model(where, compile=False)
        except Exception as error:  # Keras raises many errors: a damaged file, a layer that it does not know
            problem = error
    raise Failure(f"{where}: not a model that Keras can load: {str(problem).splitlines()[0]}")


def backbone(name: str, where: str) -> keras.Model:
    """Return the model `name` of keras.applications with the weights of a file, or of "imagenet"."""
    if where != "imagenet" and not Path(where).is_file():
        raise Failure(f"{where}: no such run or file, and not the word imagenet")
    problem = None
    with tool.hushed(f"loading the weights of {name}"):
        try:
            if where == "imagenet":
                return encoders.whole(name, where)
        except Exception as error:  # Keras raises many errors: no network, another format
            problem = error
        for top in (False, True) if problem is None else ():
            try:
                whole = encoders.whole(name, None, top)
                whole.load_weights(where)
                return whole
            except Exception as error:
                problem = problem or error
    way_out = "; without a network, fetch that file elsewhere and use --init FILE (make: INIT=FILE)"
    hint = way_out if where == "imagenet" else ""
    raise Failure(f"{where}: no weights of {name}: {str(problem).splitlines()[0]}{hint}")
