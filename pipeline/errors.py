"""Which mistakes can a user make, and mend? Every one of them is told in one line, without a traceback."""


class InputError(Exception):
    """What was found where, what was expected, and what to do: the message holds one mistake per line."""
