"""Which mistakes can a user make, and mend? Every one of them is told in one line, without a traceback."""

import re


class InputError(Exception):
    """What was found where, what was expected, and what to do: the message holds one mistake per line."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(printable(line) for line in message.split("\n")))


def printable(text: str) -> str:
    r"""Text from outside for one line: what a terminal would obey is escaped, and the end of a long text left out.

    So is the password in an address.

    >>> printable("a\nb")
    'a\\nb'
    >>> printable("https://me:se@cret@host:80/path")
    'https://me:***@host:80/path'
    """
    text = re.sub(r"(://[^/:\s]*):[^/\s]*@", r"\1:***@", text)
    escaped = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return escaped if len(escaped) <= 1000 else f"{escaped[:1000]}..."
