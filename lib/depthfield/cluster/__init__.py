"""A cluster of TensorFlow servers, from a list of hosts to running nodes. Nothing here depends on what it computes."""
