"""Conversations to render: name → arguments of a chat template."""

from __future__ import annotations

from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'Weather of a place; "today\'s" & <now>',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "such as Köln"},
                "days": {"type": ["integer", "null"], "description": "how many"},
                "units": {"type": "array", "items": {"type": "string"}, "description": "of what"},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Time", "parameters": {"type": "object", "properties": {}}},
}


def _say(*turns: str, system: str | None = None) -> list[dict[str, Any]]:
    """User and assistant in turn."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return [*([] if system is None else [{"role": "system", "content": system}]), *messages]


def _call(name: str, arguments: Any, number: str = "abcdef123") -> dict[str, Any]:
    return {"type": "function", "id": number, "function": {"name": name, "arguments": arguments}}


_CALLED = [
    *_say("Is it raining in Köln?"),
    {"role": "assistant", "content": None, "tool_calls": [_call("get_weather", {"place": "Köln", "days": 1})]},
    {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123", "content": '{"rain": true}'},
]

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one question": {"messages": _say("Hello!")},
    "system": {"messages": _say("Hello!", system="Be brief.")},
    "turns": {"messages": _say("Hi", "Hello, what can I do?", "Add 1 and 2", "3", "Thanks")},
    "turns with system": {"messages": _say("Hi", " Hello \n", "  Add 1 and 2\n", system=" You are terse. /no_think ")},
    "ended": {"messages": _say("Hi", "Bye"), "add_generation_prompt": False},
    "tools": {"messages": _say("Is it raining in Köln?"), "tools": [WEATHER, CLOCK]},
    "tools with system": {"messages": _say("What time is it?", system="Be exact."), "tools": [CLOCK]},
    "tool result": {"messages": _CALLED, "tools": [WEATHER]},
    "two tool calls": {
        "messages": [
            *_CALLED,
            {
                "role": "assistant",
                "content": "And the time:",
                "tool_calls": [_call("clock", {}, "bcdefg234"), _call("clock", {"at": "ß"}, "cdefgh345")],
            },
            {"role": "tool", "name": "clock", "tool_call_id": "bcdefg234", "content": "12:00"},
            {"role": "tool", "name": "clock", "tool_call_id": "cdefgh345", "content": "13:00"},
            {"role": "assistant", "content": "It rains at noon."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": [WEATHER, CLOCK],
    },
    "empty": {"messages": _say("", "", "")},
    "unicode": {"messages": _say("Größe, 你好, 👩‍🚀, עברית, e\u0301", "naïve ✓", "\u2028\u00a0x", system="Ünï")},
    "special characters": {
        "messages": _say(
            "{{ 1 + 1 }} {% raise %} {# x #} <b>&amp;'\"\\n\\",
            "<|im_end|>\n</s>[/INST]<think>\nhm\n</think>\n\nso: <eos>",
            "\t  two  spaces\r\n\n",
        )
    },
    "two questions": {"messages": [*_say("One"), *_say("Two")]},
    "assistant first": {"messages": [{"role": "assistant", "content": "Hello"}, *_say("Hi")]},
    "system last": {"messages": [*_say("Hi"), {"role": "system", "content": "Stop."}]},
    "another role": {"messages": [{"role": "critic", "content": "Hm"}, *_say("Hi")]},
    "parts": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": " Look "}, {"type": "image"}]},
        ]
    },
    "reasoning": {
        "messages": [
            *_say("2 + 2?"),
            {"role": "assistant", "content": "4", "reasoning_content": "\nadd\n"},
            *_say("3 + 3?"),
            {"role": "assistant", "content": "6", "thinking": "add again"},
        ],
        "add_generation_prompt": False,
    },
    "without thinking": {"messages": _say("2 + 2?"), "enable_thinking": False},
    "documents": {
        "messages": _say("Who?"),
        "documents": [{"title": "a", "text": "Ada"}, {"title": "b", "text": "Bob"}],
        "controls": {"citations": True, "length": "short"},
    },
}
