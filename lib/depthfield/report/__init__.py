"""The page of a run, and tables of several: what their folders say, for people."""
