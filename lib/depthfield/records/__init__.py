"""The two plain formats between the steps: patch files, one a photo, and TFRecord shards."""
