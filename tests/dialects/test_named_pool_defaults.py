"""What a name joins has no defaults in common: `auto` at one host never meets a left-out field at another."""

from __future__ import annotations

import json

import pytest

from cachelayer import dialects
from cachelayer.core.model import Asked, KeyRules, Request

POOL = (("name:p", "api.openai.com", "az.example"),)


def ask(host: str, **fields: str) -> Asked:
    body = json.dumps({"model": "gpt-image-2", "prompt": "a fox", **fields})
    headers = {"content-type": "application/json"}
    asked = dialects.ask(Request("POST", f"https://{host}/v1/images/generations", headers, body), KeyRules(pools=POOL))
    assert isinstance(asked, Asked)
    return asked


def keys(asked: Asked) -> set[str]:
    return {asked.key, *asked.elsewhere}


@pytest.mark.parametrize("field", ["quality", "background", "moderation"])
def test_auto_under_a_name_is_no_hosts_default(field: str) -> None:
    spelled, absent = ask("api.openai.com", **{field: "auto"}), ask("az.example")
    assert spelled.key != absent.key
    assert spelled.key not in keys(absent)
    assert absent.key not in keys(spelled)


def test_the_same_words_at_two_members_lie_under_the_name() -> None:
    assert ask("api.openai.com", quality="auto").key == ask("az.example", quality="auto").key


def test_a_rule_that_a_wider_one_covers_changes_no_key() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image:generateContent"
    body = json.dumps({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"seed": 1, "topK": 2}})
    found = {
        dialects.ask(Request("POST", url, {"content-type": "application/json"}, body), KeyRules(ignore=ignore)).key  # type: ignore[union-attr]
        for ignore in (
            ("body:generation_config",),
            ("body:generationConfig.seed", "body:generation_config"),
            ("body:generation_config", "body:generationConfig.seed"),
        )
    }
    assert len(found) == 1
