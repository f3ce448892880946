"""Depth from one photo with Deep Convolutional Neural Fields; see lib/README.md."""

import os

# TensorFlow reads both when it is first imported. Its log, and on a machine without a GPU even its errors, are noise to
# users of these commands. A lost server should raise an error at once, not hang.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
