"""Placeholders of all kinds, in sentences of all kinds: each comes out as it went in, exactly as often."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from edgeslm import Translator

# EDGESLM_PLACEHOLDER_TEXTS=5000 for a long run.
TEXTS = int(os.environ.get("EDGESLM_PLACEHOLDER_TEXTS", "560"))
INVISIBLE = "\u200b\u200e\u200f\u2066\u2069\ufeff\u00ad"
ICU = (  # their words are translated, all else is kept
    "{n, plural, one {# item} other {# items}}",
    "{n, plural, =0 {none} one {one thing} other {# things}}",
    "{gender, select, male {he} female {she} other {they}}",
)
WORDS = Path(__file__).with_name("placeholders.txt").read_text("utf-8").splitlines()
ENGLISH = """
I saw {} in the garden yesterday. | {} is not here. | Do you know {}? | Please give {} to your mother | {} | {} {}
He said that {} and {} were late. | We need {}, {} and {} today! | The house is old {} | {} I am tired. | Is it {}?
My brother ({}) likes {}. | Tom said: "{}". | Open {} and close {}. | Where is {}? It is in {}. | It costs {} {}.
Click {} to go home, then {}. | Hello {}! | hello, {}: | I have {} books and {} apples. | {}, come here! | No {}.
The dog ate {}… and {} | Are you sure you want to delete {}? | {}: the file was not found | <b>{}</b> is my friend.
If {} is wrong, call {} or write to {}. | <p>I live in {}.</p> | *{}* is **very {}** good. | - {} is here | - {} –
She bought {}; he did not want {}. | "{}" means {}. | THE {} IS CLOSED | See {}, please. | {} ↵I am here.↵ {}
"""
GERMAN = """
Ich habe {} gestern im Garten gesehen. | {} ist nicht da. | Kennen Sie {}? | Bitte gib {} deiner Mutter | {} | {} {}
Er sagte, dass {} und {} zu spät kämen. | Wir brauchen heute {}, {} und {}! | Das Haus ist alt {} | {} Ich bin müde.
Mein Bruder ({}) mag {}. | Tom sagte: „{}“. | Öffne {} und schließe {}. | Wo ist {}? Es ist in {}. | Es kostet {} {}.
Klicken Sie auf {}, um nach Hause zu gehen, dann {}. | Hallo {}! | Ich habe {} Bücher und {} Äpfel. | Kein {}.
Der Hund hat {} gefressen … und {} | Möchten Sie {} wirklich löschen? | {}: die Datei fehlt
*{}* ist **sehr {}**. | Falls {} falsch ist, rufen Sie {} an. | <p>Ich wohne in {}.</p> | - {} ist hier | - {} –
{} IST GESCHLOSSEN | {} ↵Ich bin hier.↵ {}
"""
FRENCH = """
J'ai vu {} dans le jardin hier. | {} n'est pas là. | Connaissez-vous {} ? | Donne {} à ta mère | {} | {} {}
Il a dit que {} et {} étaient en retard. | Il nous faut {}, {} et {} ! | La maison est vieille {} | {} Je suis fatigué.
Mon frère ({}) aime {}. | Tom a dit : « {} ». | Ouvrez {} et fermez {}. | Où est {} ? C'est à {}. | Ça coûte {} {}.
Bonjour {} ! | J'ai {} livres et {} pommes. | Le chien a mangé {}… et {} | Voulez-vous vraiment supprimer {} ?
{} : fichier introuvable | *{}* est **très {}** bon. | <p>J'habite à {}.</p> | - {} est ici
{} EST FERMÉ | {} ↵Je suis là.↵ {}
"""
SPANISH = """
Ayer vi a {} en el jardín. | {} no está aquí. | ¿Conoce usted a {}? | Por favor, dale {} a tu madre | {} | {} {}
Dijo que {} y {} llegaron tarde. | ¡Hoy necesitamos {}, {} y {}! | La casa es vieja {} | {} Estoy cansado. | ¿{}?
A mi hermano ({}) le gusta {}. | Tom dijo: «{}». | Abre {} y cierra {}. | ¿Dónde está {}? Está en {}. | Cuesta {} {}.
¡Hola, {}! | Tengo {} libros y {} manzanas. | El perro se comió {}… y {} | ¿Seguro que quieres borrar {}? | ¡{}!
{}: no se encontró el archivo | *{}* es **muy {}** bueno. | <p>Vivo en {}.</p> | - {} está aquí | {} ESTÁ CERRADO
"""
WAYS = {
    ("en", "de"): ENGLISH,
    ("de", "en"): GERMAN,
    ("en", "fr"): ENGLISH,
    ("fr", "en"): FRENCH,
    ("en", "es"): ENGLISH,
    ("es", "en"): SPANISH,
    ("fr", "es"): FRENCH,
}


def texts(sentences: str, count: int) -> list[tuple[str, list[str]]]:
    """Sentences, and the placeholders in each; every placeholder comes as often as the others."""
    rng = random.Random(20)
    shapes = [line.strip().replace("↵", "\n") for line in re.split(r"[|\n]", sentences) if line.strip()]
    every, deck, found = [*WORDS, *INVISIBLE, *ICU], list[str](), list[tuple[str, list[str]]]()
    while len(found) < count:
        before, *parts = rng.choice(shapes).split("{}")
        words: list[str] = []
        for _ in parts:
            deck = deck or rng.sample(every, len(every))
            words.append(rng.choice(words) if words and rng.random() < 0.1 else deck.pop())
        found.append((before + "".join(word + part for word, part in zip(words, parts, strict=True)), words))
    return found


def frame(text: str) -> str:
    """What is left of ICU messages without their words."""
    return re.sub(r"\{([^{}]*)\}", lambda form: "{" + "#" * form[1].count("#") + "}", text)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_placeholder_comes_out_as_it_was(translator: Translator, form: str, way: tuple[str, str]) -> None:
    asked = texts(WAYS[way], TEXTS)[:: 1 if form == "text" else 8]
    found = translator.translate_batch([text for text, _ in asked], *way, format=form)  # type: ignore[arg-type]
    for (text, words), translation in zip(asked, found, strict=True):
        for word in words:
            look = frame if word in ICU else str
            assert count(look(translation.text), look(word)) == count(look(text), look(word)), (word, text, translation)


def count(text: str, word: str) -> int:
    """Of an option such as "-v", "Êtes-vous" has none."""
    return len(re.findall((r"(?<!\w)" if word.startswith("-") else "") + re.escape(word), text))
