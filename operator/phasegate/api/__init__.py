"""The API of Phasegate: pydantic models of its kinds, and the CRDs generated from them.

Pure data. Imports nothing else of the project.
"""
