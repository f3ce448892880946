"""The Gaussian random field over superpixels: its graph, similarities and algebra, and the fill back to pixels."""
