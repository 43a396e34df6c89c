"""A translator that fills the terminal, offline: type a sentence, press Enter, read its translation; Ctrl-D ends.

python translate_kiosk.py [--model BUNDLE] [--from en] [--to de]

Without --from it tells each sentence's language by itself, and needs edgeslm[translate] for that.

Where input or output is no terminal it translates line by line: echo "I need new shoes." | python translate_kiosk.py
"""

from __future__ import annotations

import argparse
import sys
from collections import deque

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


def kiosk(translator: edgeslm.Translator, source: str | None, target: str | None) -> None:
    """Ask, translate, show, until the end of input."""
    console, shown = Console(), Shown(maxlen=100)
    ways = ", ".join(f"{a} → {b}" for a, b in translator.pairs)
    with console.screen():
        while True:
            console.clear()
            console.print(screen(shown, ways, console.height))
            text = console.input("[bold]> [/]").strip()[:LONGEST]
            if not text:
                continue
            try:
                found = translator.translate(text, source, target)
                shown.append((text, found.text + "  (unsure)" * (found.confidence < UNSURE)))
            except edgeslm.EdgeslmError as error:
                shown.append((text, f"({error})"))


def pipe(translator: edgeslm.Translator, source: str | None, target: str | None) -> None:
    """A translation for every line."""
    for line in sys.stdin:
        print(translator.translate(line.rstrip("\n"), source, target), flush=True)


def main() -> int:
    """Read the options, open the model, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", help="bundles' folders; by default the embedded translators")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--to", dest="target")
    options = parser.parse_args()
    try:
        with edgeslm.Translator.load(options.model) as translator:
            at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
            (kiosk if at_terminal else pipe)(translator, options.source, options.target)
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
