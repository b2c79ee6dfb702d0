"""The lab's parts that come as Go modules: pinned by go.mod, built once into the cache."""
