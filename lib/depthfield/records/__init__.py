"""The two file formats between the steps: patch files, one per photo, and TFRecord shards of records."""
