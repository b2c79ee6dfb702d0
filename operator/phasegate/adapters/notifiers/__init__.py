"""Channels to people: chat, pager, mail. Named by the administrator, secrets by file only."""
