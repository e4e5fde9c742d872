"""Weight files as named NumPy arrays: one reader for each format, none of which runs anything that a file says."""
