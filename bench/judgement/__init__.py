"""Verdicts measured on simulated traffic with fixed seeds: `make bench-judgement`."""
