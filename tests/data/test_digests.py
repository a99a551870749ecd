from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.data.digests import digest_array, question_digest

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_the_digest_is_half_a_sha_256_of_the_folded_text():
    assert question_digest("  What  IS\nthis? ") == hashlib.sha256(b"what is this?").digest()[:16]


@given(words)
def test_case_and_blank_space_do_not_matter(text):
    spaced = f" \n{text} \t"
    assert question_digest(spaced) == question_digest(text)
    assert question_digest("  ".join(text.split(" "))) == question_digest(text)


def test_compatible_forms_of_a_letter_do_not_matter():
    assert question_digest("ﬁne Å") == question_digest("fine \u00c5")
    assert question_digest("STRASSE") == question_digest("straße")


def test_options_are_part_of_the_question_and_their_order_counts():
    found = {
        question_digest("which?"),
        question_digest("which?", ["a", "b"]),
        question_digest("which?", ["b", "a"]),
        question_digest("which?", ["a b"]),
        question_digest("which? a", ["b"]),
        question_digest("which? a b"),
    }
    assert len(found) == 6


def test_lone_surrogates_have_a_digest():
    assert question_digest("\ud800") != question_digest("\udfff")


@given(st.lists(words, min_size=1, max_size=5))
def test_rows_hold_the_digests_in_order(texts):
    digests = [question_digest(text) for text in texts]
    rows = digest_array(digests)
    assert rows.shape == (len(texts), 2)
    assert rows.dtype == np.uint64
    assert [row.astype(">u8").tobytes() for row in rows] == digests


def test_no_digests_make_an_empty_array():
    assert digest_array([]).shape == (0, 2)
