"""What is wrong with a YAML file, without its content: a line that cannot be read may hold a secret."""

from __future__ import annotations

import yaml


def words(error: Exception) -> str:
    """What is wrong and where, in words that quote nothing of the file."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return type(error).__name__
    mark = error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    # The other kinds of error name the tag or alias, which is what an unquoted password looks like.
    syntax = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError)
    return f"{error.problem if syntax else 'an unknown tag or alias: quote it'}{where}"
