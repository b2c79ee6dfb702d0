"""Words of tenants on their way to people: as they are read, and doing nothing else.

A prompt, a version, a reason can hold anything. In a chat or a mail it must not call people, be a
link, or look like something that we said.
"""

from __future__ import annotations

import re
from typing import Final

_JOINER: Final = "\u2060"
"""Word joiner: nothing is seen of it, and no program takes what it divides for one word."""
_LINKS: Final = re.compile(r"(?<=[A-Za-z])(?=://)|(?<=[A-Za-z0-9])\.(?=[A-Za-z])")
_BRACKETS: Final = str.maketrans({"<": "‹", ">": "›"})
_HIDDEN: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff]+"
)


def harmless(text: str) -> str:
    """On one line, without markup, mentions and links, in any program that shows it.

    ``@channel``, ``<!here>``, ``https://evil.example`` are still read as such, and are none.
    """
    text = _HIDDEN.sub(" ", text).translate(_BRACKETS).replace("@", f"@{_JOINER}")
    return _LINKS.sub(lambda found: f"{found.group()}{_JOINER}", text)


def cut(text: str, most: int) -> str:
    """`text` in at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
