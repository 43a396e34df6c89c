"""``edgeslm inspect``: what a bundle holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeslm.cli.options import json_option
from edgeslm.cli.output import print_json, print_table, size

if TYPE_CHECKING:
    from edgeslm.bundle import Bundle


@click.command(short_help="Show what a bundle holds.")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds: the model, its targets, what verification measured, files.

    \b
    edgeslm inspect ./smol
    edgeslm inspect ./smol --json
    """
    from edgeslm.bundle import Bundle

    opened = Bundle.open(bundle)
    found = describe(opened)
    if as_json:
        print_json(found)
        return
    print_table(("model", ""), [(k.replace("_", " "), v) for k, v in {**found["provenance"], **found["model"]}.items()])
    targets = [(name, t.summary, _measured(t.verification)) for name, t in opened.manifest.targets.items()]
    print_table(("target", "settings", "verified"), targets)
    notes = [(name, note) for name, t in found["targets"].items() for note in _notes(t["settings"])]
    if notes:
        print_table(("target", "note"), notes)
    print_table(("file", "size"), [(name, size(count)) for name, count in found["files"].items()])


def describe(bundle: Bundle) -> dict[str, Any]:
    """The manifest without the tensor tables."""
    from edgeslm.spec import parameter_count
    from edgeslm.tokenizer import TOKENIZER_JSON

    manifest, spec = bundle.manifest, bundle.spec
    return {
        "bundle": str(bundle.folder),
        "provenance": manifest.provenance,
        "model": {
            "parameters": parameter_count(spec),
            "vocab_size": spec.vocab_size,
            "hidden": spec.hidden,
            "layers": len(spec.layout),
            "context_length": spec.context_length,
            "tied": spec.tied,
            "tokenizer": bundle.has(TOKENIZER_JSON),
        },
        "targets": {
            name: {"settings": t.settings, "files": t.files, "verification": t.verification}
            for name, t in manifest.targets.items()
        },
        "files": {name: entry.bytes for name, entry in manifest.files.items()},
    }


def _notes(settings: dict[str, Any]) -> list[Any]:
    """What the conversion left out, and why."""
    notes = settings.get("notes")
    return notes if isinstance(notes, list) else []


def _measured(verification: dict[str, Any]) -> str:
    if not verification:
        return "no"
    return "passed" if verification.get("passed") is True else "FAILED"
