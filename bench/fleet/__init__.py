"""A whole fleet on a real API server and a real Prometheus: `make bench-fleet`.

Only what costs a machine per agent is played: pods and gateway report what they would report
(`hands`), and one process serves the metrics of all agents (`exporter`).
"""
