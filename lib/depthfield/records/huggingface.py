"""Records as a dataset of Hugging Face's library `datasets`, which is installed apart (pip install datasets)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from depthfield.records import shards
from depthfield.records.shards import Field

if TYPE_CHECKING:
    import datasets


def dataset(paths: Sequence[Path]) -> "datasets.Dataset":
    """The photos of shards, a row each, with the fields of shards.SCHEMA as columns.

    Pictures are Pillow images: `image` RGB, `superpixels` and `depth_map` of 16 bits. Other fields are numbers, texts
    and lists of them. Rows are kept in the cache of `datasets`, and read anew where a shard has changed. `to_parquet`
    of the result makes a file that needs neither TensorFlow nor this project.

    Raises Failure for a shard that is missing or damaged.
    """
    import datasets

    kinds = {"text": "string"}

    def column(field: Field) -> object:
        if field.is_png:
            return datasets.Image()
        kind = datasets.Value(kinds.get(field.dtype, field.dtype))
        for _ in field.shape:
            kind = datasets.List(kind)
        return kind

    columns = {name: column(field) for name, field in shards.SCHEMA.items()}
    # What the generator gets is the key in the cache: with the times, a shard that is made again is read again.
    given = {
        "paths": [str(path) for path in paths],
        "times": [shards.existing(path).stat().st_mtime_ns for path in paths],
    }
    return datasets.Dataset.from_generator(rows, features=datasets.Features(columns), gen_kwargs=given)


def rows(paths: list[str], times: list[int]) -> Iterator[dict]:
    """Each photo of the shards as plain values, pictures as their PNG bytes."""
    for path in paths:
        for serialized, _ in shards.examples(Path(path), ("version",)):
            example = tf.io.parse_single_example(serialized, shards.FEATURES)
            row = {name: plain(value.numpy(), shards.SCHEMA[name]) for name, value in example.items()}
            similarities = example["similarities"].numpy().reshape(-1, len(row["similarity_names"]))
            yield row | {"similarities": similarities.tolist()}


def plain(value: object, field: Field) -> object:
    """A parsed field as `datasets` takes it."""
    if field.is_png:
        return {"path": None, "bytes": value}
    if field.dtype == "text":
        return [text.decode() for text in value] if field.shape else value.decode()
    return value.tolist()
