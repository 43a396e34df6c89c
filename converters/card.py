"""The bundle's README.md: source, licence, settings and scores, for the person who finds the folder."""

from __future__ import annotations

from typing import Any

from edgeslm._version import __version__
from edgeslm.converters.checkpoint import Checkpoint
from edgeslm.manifest import Manifest
from edgeslm.spec import parameter_count


def model_card(checkpoint: Checkpoint, manifest: Manifest) -> str:
    """Markdown."""
    spec = manifest.spec
    licence = checkpoint.licence or "not stated by the checkpoint"
    texts = ", ".join(p.name for p in checkpoint.licence_files)
    lines = [
        f"# {checkpoint.source}",
        "",
        f"Converted by edgeslm {__version__}. Run it offline: `edgeslm run . PROMPT`; check it: `edgeslm verify .`",
        "",
        f"- Source: `{checkpoint.source}` ({checkpoint.model_type}, {parameter_count(spec) / 1e6:.1f} M parameters)",
        f"- Licence: {licence}" + (f"; see {texts}" if texts else ""),
        f"- Context: {spec.context_length} tokens; vocabulary: {spec.vocab_size}",
        "",
        "| target | settings | engine | KL | top-1 agreement | max error | verified |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, target in manifest.targets.items():
        measured = target.verification.get("engines", {})
        lines += [_row(name, target.summary, m) for m in measured.values()] or [
            f"| {name} | {target.summary} | | | | | not verified |"
        ]
    notes = [f"- {name}: {note}" for name, t in manifest.targets.items() for note in t.settings.get("notes", ())]
    lines += [
        *(["", *notes] if notes else []),
        "",
        "Scores compare each target with the float32 original on a built-in text: mean KL divergence in nats, "
        "share of equal most likely tokens, and largest difference of a logit.",
        "",
    ]
    return "\n".join(lines)


def _row(target: str, settings: str, m: dict[str, Any]) -> str:
    return (
        f"| {target} | {settings} | {m['engine']} | {m['kl']:.2g} | {m['top1_agreement']:.3f} "
        f"| {m['max_abs_error']:.2g} | {'passed' if m['passed'] else '**failed**'} |"
    )
