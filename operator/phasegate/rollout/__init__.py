"""The rollout itself, pure: what was observed and the time go in, a decision comes out."""
