"""The commands: `phasegate`, which is also `kubectl phasegate`."""
