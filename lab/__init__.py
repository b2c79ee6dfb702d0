"""An embedded Kubernetes cluster of real parts, in one Linux namespace tree, without Docker.

`python -m lab up` (also the script `lab`) starts etcd, kube-apiserver, kube-controller-manager,
Prometheus, Envoy Gateway and Envoy as local processes in user, network, PID and mount namespaces
of their own, together with the node agent (`lab.node`), which runs pods. `lab.Lab` is the same
for Python programs: tests, demo and benchmarks.

This package needs only the standard library to be imported and to build the parts, so that
the first build can run before the Python environment is complete.
"""

from __future__ import annotations

from lab.errors import LabError
from lab.handle import Lab

__all__ = ["Lab", "LabError"]
