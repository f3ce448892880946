"""A run on a page, with its predictions of test photos."""

from typing import NamedTuple

from depthfield.history import Run


class Shown(NamedTuple):
    """One test photo as a run predicts it; the pictures are JPEG but for `error`."""

    digest: str  # of its record
    name: str
    rel: float
    low: float  # metres, ends of the colours of truth and prediction
    high: float
    off: float  # end of the colours of errors, as a share of the depth, which begin with 0
    sure: float  # ends of the colours of uncertainties, as shares of the depth
    unsure: float
    width: int  # pixels of the pictures
    height: int
    photo: bytes
    truth: bytes
    prediction: bytes
    error: bytes  # |prediction - truth| / truth as a grey PNG, see photos.grey: runs beside it decide on the colours
    uncertainty: bytes  # standard deviation / prediction


class Tested(NamedTuple):
    """The predictions of a run."""

    scores: dict[str, dict]  # see evaluation.examine
    counted: list[int]  # pixels by their error in standard deviations, see calibration.counts
    calibrated: bool
    refused: int  # photos without a measured pixel
    photos: list[Shown]


class View(NamedTuple):
    """A run on a page."""

    run: Run
    name: str
    colour: int
    tested: Tested | None
