"""Weight files as named NumPy arrays: one reader for each format; no reader runs code from a file."""
