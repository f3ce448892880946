"""The page of a run, and tables of several runs."""
