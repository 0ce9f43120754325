"""Texts that tokenizers are compared by."""

from __future__ import annotations

from rllm_serving.models.token_probe import BASIC, CHAT, TEXTS, digest, first_difference, with_tokens


def test_a_question_has_all_of_the_texts_and_tokens_stand_everywhere() -> None:
    assert BASIC in TEXTS.values() and all(text in CHAT for text in TEXTS.values())
    assert with_tokens(["<a>", "<b>"]) == "<a> a<a>b\n<a><a><b> a<b>b\n<b><b>" and with_tokens([]) == ""


def test_a_difference_is_shown_where_it_begins() -> None:
    assert first_difference("the same, theĠrest", "the same, the rest") == "'ame, theĠrest' instead of 'ame, the rest'"
    assert first_difference("cut", "cut off") == "'cut' instead of 'cut off'"


def test_only_equal_ids_have_equal_digests() -> None:
    assert digest([1, 2]) == digest([1, 2]) != digest([12]) and digest([[1], [2]]) != digest([[1, 2]])
