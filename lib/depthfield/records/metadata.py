"""The files by which TensorFlow Datasets reads shards: features.json and dataset_info.json beside them.

Their form is that of tfds.folder_dataset.write_metadata (https://www.tensorflow.org/datasets/external_tfrecord), which
is JSON of the messages in tensorflow_datasets/core/proto. TensorFlow Datasets itself is not needed here.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from depthfield import files
from depthfield.records import shards
from depthfield.records.shards import Field

FEATURES, INFO = "features.json", "dataset_info.json"
TEMPLATE = "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"  # of the names of shards.names
CLASSES = "tensorflow_datasets.core.features"


def write(out: Path, lengths: Mapping[str, Sequence[int]]) -> None:
    """Write, or leave as they are, the two files for the shards in `out`; remove them where it has none.

    `lengths` are the numbers of photos in the shards of each split.
    """
    if not any(lengths.values()):
        for name in (FEATURES, INFO):
            (out / name).unlink(missing_ok=True)
        return
    paths = {split: shards.names(out, split, len(counts)) for split, counts in lengths.items()}
    first = next(iter(shards.read([path for of_split in paths.values() for path in of_split], ("similarity_names",))))
    splits = [
        {
            "name": split,
            "shardLengths": [str(count) for count in lengths[split]],
            "numBytes": str(sum(path.stat().st_size for path in paths[split])),
            "filepathTemplate": TEMPLATE,
        }
        for split in lengths
        if lengths[split]
    ]
    files.write_json(out / FEATURES, features(len(first["similarity_names"])))
    files.write_json(out / INFO, info(out) | {"splits": splits})


def info(out: Path) -> dict:
    """What dataset_info.json says of the dataset as a whole; NAME for the folder NAME/records."""
    folder = out.resolve()
    title = folder.parent.name if folder.name == "records" else folder.name
    name = re.sub(r"\W", "_", title, flags=re.ASCII).lower()
    return {
        "name": name if name[0].isalpha() else f"photos_{name}",
        "version": f"{shards.VERSION}.0.0",
        "description": "Photos with measured depth, divided into superpixels, as records of depthfield.",
        "fileFormat": "tfrecord",
    }


def features(similarities: int) -> dict:
    """What features.json says: SCHEMA, for so many similarities a pair."""
    fields = {name: feature(field, similarities) for name, field in shards.SCHEMA.items()}
    return {"pythonClassName": f"{CLASSES}.features_dict.FeaturesDict", "featuresDict": {"features": fields}}


def feature(field: Field, similarities: int) -> dict:
    """One field; a length that differs from photo to photo is -1."""
    numbers = [similarities if length == "K" else length if isinstance(length, int) else -1 for length in field.shape]
    shape = {"dimensions": [str(number) for number in numbers]} if numbers else {}
    if field.is_png:
        kind = "image_feature.Image", {"image": {"shape": shape, "dtype": field.dtype, "encodingFormat": "png"}}
    elif field.dtype == "text" and not numbers:
        kind = "text_feature.Text", {"text": {}}
    else:
        dtype = "string" if field.dtype == "text" else field.dtype
        class_name = "tensor_feature.Tensor" if numbers else "scalar.Scalar"
        kind = class_name, {"tensor": {"shape": shape, "dtype": dtype, "encoding": "none"}}
    return {"pythonClassName": f"{CLASSES}.{kind[0]}", **kind[1], "description": field.meaning}
