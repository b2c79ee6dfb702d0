"""What design and README promise, measured on real parts: `make bench`, `python -m bench`.

Each benchmark prints a table with the machine's description. Nothing here is asserted in a test.
"""
