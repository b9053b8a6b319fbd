"""What does a mistake of the user look like? One line with all that it has to say, and no traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pipeline.errors import InputError


@contextlib.contextmanager
def refused(*parts: object) -> Iterator[None]:
    """The block raises an InputError of one line that holds every one of `parts`."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert not [part for part in parts if str(part) not in message], message
