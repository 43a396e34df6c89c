"""``--prompt-cache FILE``: what a prompt begins with, computed once for many runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeslm.errors import SessionFileError

if TYPE_CHECKING:
    from edgeslm.api import Model
    from edgeslm.prefix import Prefix

prompt_cache_option = click.option(
    "--prompt-cache",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take what the prompt begins with from here; compute and write it where the file holds less than half.",
)


def cached_prefix(model: Model, ids: Sequence[int], path: Path) -> Prefix:
    """The prefix in a file, or else that of ids, written there; a note on stderr says why a file was replaced."""
    found = _found(model, path)
    if found is not None:
        if 2 * found.shared(ids) >= len(ids):
            return found
        found.close()
        click.echo(f"edgeslm: {path}: holds another prompt; computing it anew", err=True)
    prefix = model.prefix(list(ids[:-1]) or list(ids))  # the last token is run by the completion in any case
    try:
        prefix.save(path)
    except BaseException:
        prefix.close()
        raise
    return prefix


def _found(model: Model, path: Path) -> Prefix | None:
    if not path.exists():
        return None
    try:
        return model.load_prefix(path)
    except SessionFileError as error:
        click.echo(f"edgeslm: {error}; computing it anew", err=True)
        return None
