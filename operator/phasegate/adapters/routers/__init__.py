"""Routers: the ways to split traffic, one module each."""
