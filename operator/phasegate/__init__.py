"""Phasegate: progressive delivery for AI agents on Kubernetes."""
