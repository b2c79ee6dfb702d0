"""The sample agent: a simulated model and tools behind HTTP, with honest metrics.

Its behaviour follows from its revision (prompt, model, parameters, tools, environment), and its
faults are environment variables or words in its prompt, so that anyone can write a bad revision.
"""
