"""One module per kind of check: what it counts, how it decides, what it says."""
