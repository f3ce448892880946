"""The steps before the network and after the field as TensorFlow operations, for exported models.

Each module computes the same as its namesake one folder up, which explains it; tests compare the two. Only SLIC
differs: see superpixels.
"""
