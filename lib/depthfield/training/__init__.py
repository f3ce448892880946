"""Training: what to train (recipe), steps in the graph (rounds), what to keep (checkpoints), and the loop (chief)."""
