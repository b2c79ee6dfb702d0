"""Evidence and verdicts: pure functions of raw samples. No clock, no I/O, no chance."""
