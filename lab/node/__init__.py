"""The lab's node agent: a kubelet's part, with local processes instead of containers.

What it does: binds pods to itself, gives each its own network namespace and address, runs init and
main containers with their environment, ConfigMaps, Secrets and other simple volumes, probes them
(httpGet, tcpSocket, exec), restarts them with back-off, ends them with preStop and grace, reports
status and Warning events, and serves `kubectl logs`.

What it does not, and a real node would:

- There are no images. `phasegate.dev/sample-agent:<any tag>` stands for `lab.agent`; any other
  image must come with a `command`, which runs from this machine's files. Else: ImagePullBackOff.
- Services have no working ClusterIP and no DNS name (there is no kube-proxy): the gateway sends
  to endpoints, and so must whoever else wants a pod.
- Resources are neither counted nor enforced; of the scheduling rules only nodeSelector counts.
- Pods get no service account token. ConfigMaps and Secrets are read when a container starts;
  a later change does not reach its files.
- Processes see the machine's files and the lab's processes, and run as the lab's user whatever
  `securityContext` says. No exec, attach, port-forward, postStart, gRPC probes, sidecars.
- Waits are a tenth of a kubelet's: back-off 1 to 30 s; probes are tried every 0.2 s until their
  first success.

A node agent that is started again ends what a killed one left and starts the pods afresh, at the
same addresses, counted as a restart.
"""
