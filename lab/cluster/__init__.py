"""The cluster inside the lab's namespaces: its parts, how they come up, and who watches them."""
