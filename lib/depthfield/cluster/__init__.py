"""A cluster of TensorFlow servers: from a list of hosts to running nodes. Knows nothing of what is computed on it."""
