"""What a photo goes through before the network and after the field, in TensorFlow's operations, for models that leave.

Each module is its namesake one folder up, which says what is computed and why; tests hold the two equal. Only SLIC is
another: see superpixels.
"""
