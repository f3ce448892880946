"""The Gaussian random field over superpixels: its graph, its similarities, its algebra, and the way back to pixels."""
