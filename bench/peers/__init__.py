"""Phasegate beside Argo Rollouts and Flagger: `python -m bench.peers`, `make bench-peers`.

All three run on the same lab, the same Prometheus, the same counters and the same fault. Nothing
of the three is played; what is played, for all alike, is what none of them is measured by: pods
are made ready by `stage`, gateways accept every route there, and `exporter` counts the requests
that the live routes would give each revision.
"""
