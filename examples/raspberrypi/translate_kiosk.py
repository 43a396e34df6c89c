"""A translator that fills the terminal, offline: type a sentence, press Enter, read its translation; Ctrl-D ends.

python translate_kiosk.py [--model BUNDLE] [--between en de] [--from en --to de]

Of two languages it tells by itself which a sentence is in, and translates to the other; it needs edgeslm[translate]
for that. With --from and --to it translates one way.

Where input or output is no terminal it translates line by line: echo "I need new shoes." | python translate_kiosk.py
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.align import Align
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

import edgeslm
from edgeslm.translation.translator import UNSURE

LONGEST = 2000  # characters of a sentence
Shown = deque[tuple[str, str]]  # sentences and their translations


def screen(shown: Shown, way: str, height: int) -> Panel:
    """The last translations that fit, the newest at the bottom and large."""
    lines: list[Text] = []
    for original, translation in shown:
        lines += [Text(original, style="dim"), Text(translation, style="bold"), Text("")]
    body = Group(*lines[-max(1, height - 6) :]) if lines else Text("Type a sentence and press Enter.", style="dim")
    return Panel(
        Align(body, vertical="bottom", height=max(1, height - 4)), title=f"{way}, offline", subtitle="Ctrl-D ends"
    )


@dataclass(frozen=True)
class Ways:
    """From a source to a target, or, without them, between two languages."""

    between: Sequence[str]
    source: str | None
    target: str | None

    def __str__(self) -> str:
        return f"{self.source or '…'} → {self.target}" if self.target else " ↔ ".join(self.between)

    def translate(self, translator: edgeslm.Translator, text: str) -> edgeslm.Translation:
        if self.target:
            return translator.translate(text, self.source, self.target, beams=4)
        source, (one, other) = self.source or translator.language(text), self.between
        return translator.translate(text, source, one if source == other else other, beams=4)


def kiosk(translator: edgeslm.Translator, ways: Ways) -> None:
    """Ask, translate, show, until the end of input."""
    console, shown = Console(), Shown(maxlen=100)
    with console.screen():
        while True:
            console.clear()
            console.print(screen(shown, str(ways), console.height))
            text = console.input("[bold]> [/]").strip()[:LONGEST]
            if not text:
                continue
            try:
                found = ways.translate(translator, text)
                shown.append((text, found.text + "  (unsure)" * (found.confidence < UNSURE)))
            except edgeslm.EdgeslmError as error:
                shown.append((text, f"({error})"))


def pipe(translator: edgeslm.Translator, ways: Ways) -> None:
    """A translation for every line, an empty one for an empty one."""
    for line in map(str.strip, sys.stdin):
        print(ways.translate(translator, line) if line else "", flush=True)


def main() -> int:
    """Read the options, open the model, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", help="bundles' folders; by default the embedded translator")
    parser.add_argument("--between", nargs=2, default=("en", "de"), metavar="LANG", help="by default en de")
    parser.add_argument("--from", dest="source", metavar="LANG")
    parser.add_argument("--to", dest="target", metavar="LANG")
    options = parser.parse_args()
    try:
        with edgeslm.Translator.load(options.model) as translator:
            at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
            (kiosk if at_terminal else pipe)(translator, Ways(options.between, options.source, options.target))
    except edgeslm.EdgeslmError as error:
        print(error, file=sys.stderr)
        return 1
    except EOFError:
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
