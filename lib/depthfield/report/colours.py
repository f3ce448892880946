"""Colours of a page: those of curves, and of the maps of photos."""

from depthfield.picture import Colours

BACKGROUNDS = {"light": "#fcfcfb", "dark": "#15171a"}
# Eight colours that the colour-blind can tell apart, too (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/). On a
# light page the light ones are darker than theirs, in the same hue, so that each has a contrast of 3 to 1; on a dark
# page black is white.
CURVES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#c4749f", "#000000", "#bd8200", "#4695c1", "#958d29"),
    "dark": ("#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#f4f4f4", "#e69f00", "#0072b2", "#f0e442"),
}


def gradient(colours: Colours) -> str:
    """Return the stops of a CSS gradient, evenly spaced."""
    return ", ".join("#" + "".join(f"{channel:02x}" for channel in colour) for colour in colours)
