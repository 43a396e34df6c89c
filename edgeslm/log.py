"""What the package tells besides errors, by ``logging``: it prints nothing unless the program asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


def logger(name: str) -> logging.Logger:
    """The logger ``edgeslm.NAME``. ``logging`` is imported here, when there is something to tell: it takes a while."""
    import logging

    root = logging.getLogger("edgeslm")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    return root.getChild(name)
