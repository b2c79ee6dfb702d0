"""The lab's Linux namespaces: making them, running inside them, reaching into them.

Chain of processes: the *host process* (`lab up`, in the host's namespaces; forwards ports) starts
`unshare`, which starts *init* (PID 1 of the lab; reaps orphans), which starts the *supervisor*
(`lab.cluster.supervisor`; owns the parts). The host process holds the write end of a pipe, the
lifeline: when it ends for any reason, SIGKILL included, init reads end-of-file and exits, and
the kernel kills whatever is left in the PID namespace.
"""
