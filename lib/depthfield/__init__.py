"""Depth from one photo with Deep Convolutional Neural Fields; see lib/README.md."""

import os

# TensorFlow reads both when it is first imported. Its own log is noise to a user of these commands, on a machine
# without a GPU even its errors; a server that has gone should be an error at once, not a silence.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
