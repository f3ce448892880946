"""Training: settings (recipe), steps in the graph (rounds), saved state (checkpoints), and the loop (chief)."""
