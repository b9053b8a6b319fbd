"""How does a function become a command? One line per mistake, a proper exit status."""

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from pipeline.errors import InputError, printable


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; an InputError becomes a line on stderr for each mistake and exit status 1.

    Where the reader of its output has gone, as `head` does, it ends silently, as a signal would end it.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        try:
            main()
        finally:
            sys.stdout.flush()  # at the interpreter's own end it would be too late to say nothing
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        sys.exit(128 + signal.SIGPIPE)
    except InputError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except Exception as error:
        if not _disk_is_full(error):
            raise
        sys.exit(f"error: the disk is full ({printable(str(error))}); make room and give the same command again")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


class Interruption:
    """Within the block SIGINT, SIGTERM and SIGHUP wait until `obey` is called; only a second SIGINT acts at once.

    Of SIGTERM there are two when a whole process group gets it: its own, and that of a stage whose DVC is gone.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGINT is in a shell's background jobs
                self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if error is None:
            self.obey()

    def obey(self) -> None:
        """End as the signal demands, if there was one."""
        if self.asked is not None:
            self._restore()
            signal.raise_signal(self.asked)

    def _remember(self, number: int, _: object) -> None:
        self.asked = number
        if number == signal.SIGINT:
            signal.signal(number, self._handlers[number])

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def _reader_is_gone() -> bool:
    """Whether nobody reads stdout or stderr any more; what is left to be written there then goes nowhere."""
    outputs = select.poll()
    for descriptor in (1, 2):
        outputs.register(descriptor, 0)  # asked for no event, poll tells of errors alone
    gone = [descriptor for descriptor, _ in outputs.poll(0)]
    for descriptor in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return bool(gone)


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error comes from that; safetensors hands on no more of the system's error than its text."""
    full = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        if getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end_with(parent: int) -> None:
    """End this stage when DVC, which started it, is gone: killed, DVC leaves its children running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
