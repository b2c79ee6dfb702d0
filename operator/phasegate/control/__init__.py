"""The control loop: queue, reconcile, sampler, lease. Talks to the world through ports only."""
