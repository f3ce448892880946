"""Colours of a page, all from the perceptually uniform map picture.ANCHORS."""

from depthfield.picture import ANCHORS

BACKGROUNDS = {"light": "#fcfcfb", "dark": "#15171a"}
# The part of the map for curves, from 0 (light) to 1 (dark), that has enough contrast with the background.
SPANS = {"light": (0.45, 1.0), "dark": (0.6, 0.0)}


def palette(count: int, scheme: str) -> list[str]:
    """Return `count` colours for curves, evenly spaced."""
    first, last = SPANS[scheme]
    places = [at / (count - 1) for at in range(count)] if count > 1 else [0.4]
    return [colour(first + (last - first) * place) for place in places]


def gradient() -> str:
    """Return the stops of a CSS gradient from near to far."""
    return ", ".join(colour(at / (len(ANCHORS) - 1)) for at in range(len(ANCHORS)))


def colour(place: float) -> str:
    """Return the colour at a position from 0 (near, light) to 1 (far, dark), as #rrggbb."""
    at = place * (len(ANCHORS) - 1)
    below = min(int(at), len(ANCHORS) - 2)
    mixed = ANCHORS[below] + (ANCHORS[below + 1] - ANCHORS[below]) * (at - below)
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in mixed)
