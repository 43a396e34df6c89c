from __future__ import annotations

import pytest

from edgeslm.errors import ArgumentError
from edgeslm.translation.card import Pair
from edgeslm.translation.routes import Routes


def routes(*pairs: str) -> Routes:
    """Routes over pairs such as "en-de"."""
    return Routes(Pair(*pair.split("-"), f"<{pair}> {{text}}") for pair in pairs)


def test_a_direct_pair_is_taken_and_others_pivot() -> None:
    found = routes("de-en", "fr-en", "en-es", "fr-es", "es-it")
    assert list(map(str, found.route("fr", "es"))) == ["fr→es"]
    assert list(map(str, found.route("de", "es"))) == ["de→en", "en→es"]
    assert list(map(str, found.route("de", "it"))) == ["de→en", "en→es", "es→it"]
    assert found.languages == ["de", "en", "fr", "es", "it"]
    assert found.route("fr", "es")[0].ask("a {text} b") == "<fr-es> a {text} b"


def test_what_is_not_there_is_refused_with_what_is() -> None:
    found = routes("en-de", "en-fr")
    for source, target in (("de", "en"), ("de", "fr"), ("en", "en"), ("xx", "de"), ("en", "xx")):
        with pytest.raises(ArgumentError, match="en→de, en→fr"):
            found.route(source, target)
    with pytest.raises(ArgumentError, match="target: none given"):
        found.target("en", None)
    with pytest.raises(ArgumentError, match="translates from it"):
        found.target("de", None)
    assert routes("en-de").target("en", None) == "de"


def test_of_two_models_for_a_pair_the_first_counts() -> None:
    first, second = Pair("en", "de", "1 {text}"), Pair("en", "de", "2 {text}")
    found = Routes([first, second])
    assert found.route("en", "de") == (first,) and found.target("en", None) == "de"
    with pytest.raises(ArgumentError, match=r"there is en→de$"):
        found.route("de", "en")


def test_the_only_source() -> None:
    found = routes("en-de", "de-en", "fr-en")
    assert found.only_source(None) is None and found.only_source("en") is None
    assert found.only_source("de") == "en" and found.only_source("xx") is None  # fr→en→de is no direct way
    assert routes("en-de", "de-en").only_source("de") == "en" and routes("en-de").only_source(None) == "en"
