"""How does a stage become a command? One argument at most, one line per mistake, a proper exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from pipeline.errors import InputError
from pipeline.params import MODELS, Model


def model_command(main: Callable[[Model], None]) -> None:
    """Run `main` for the model that the command line names."""
    parser = argparse.ArgumentParser(prog=_program(main), description=_question(main))
    parser.add_argument("model", choices=MODELS)
    model: Model = parser.parse_args().model
    run_command(lambda: main(model))


def plain_command(main: Callable[[], None]) -> None:
    """Run `main`, which takes no argument."""
    argparse.ArgumentParser(prog=_program(main), description=_question(main)).parse_args()
    run_command(main)


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; an InputError becomes a line on stderr for each mistake and exit status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        main()
    except InputError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _end_with(parent: int) -> None:
    """End this stage when DVC, which started it, is gone: killed, DVC leaves its children running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _program(main: Callable[..., None]) -> str:
    spec = sys.modules[main.__module__].__spec__
    return f"python -m {spec.name if spec else main.__module__}"


def _question(main: Callable[..., None]) -> str | None:
    return sys.modules[main.__module__].__doc__
