"""The colours of a page: all of one map that is even to the eye, picture.ANCHORS."""

from depthfield.picture import ANCHORS

BACKGROUNDS = {"light": "#fcfcfb", "dark": "#15171a"}
# From where to where of the map curves have their colours, 0 being light: so far as they stand out from the background.
SPANS = {"light": (1.0, 0.44), "dark": (0.6, 0.0)}


def palette(count: int, scheme: str) -> list[str]:
    """So many colours for curves, as far from each other as can be; one alone is from a third of the span."""
    first, last = SPANS[scheme]
    places = [at / (count - 1) for at in range(count)] if count > 1 else [0.4]
    return [colour(first + (last - first) * place) for place in places]


def gradient() -> str:
    """The whole map, near to far, as the stops of a gradient."""
    return ", ".join(colour(at / (len(ANCHORS) - 1)) for at in range(len(ANCHORS)))


def colour(place: float) -> str:
    """The colour at a place of the map, from 0 (near, light) to 1 (far, dark), as #rrggbb."""
    at = place * (len(ANCHORS) - 1)
    below = min(int(at), len(ANCHORS) - 2)
    mixed = ANCHORS[below] + (ANCHORS[below + 1] - ANCHORS[below]) * (at - below)
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in mixed)
