from __future__ import annotations

from statistics import fmean, pstdev

from hypothesis import given
from hypothesis import strategies as st

from zerorouter.sandbox.draws import normal, uniforms
from zerorouter.sandbox.text import count, filler, first_pieces, pieces


@given(st.text())
def test_pieces_joined_are_the_text(text: str):
    assert "".join(pieces(text)) == text
    assert count(text) == len(pieces(text))


@given(st.text(), st.integers(-2, 50))
def test_first_pieces_are_a_beginning_of_at_most_that_many(text: str, n: int):
    kept = first_pieces(text, n)
    assert text.startswith(kept)
    assert count(kept) <= max(n, 0)
    assert n < count(text) or kept == text


@given(st.integers(0, 2_000), st.integers(0, 10_000))
def test_filler_has_as_many_pieces_as_were_asked_for(n: int, start: int):
    assert count(filler(n, start)) == n


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 300))
def test_filler_goes_on_where_a_shorter_one_ends(n: int, start: int, more: int):
    assert filler(n + more, start) == filler(n, start) + filler(more, start + n)


def test_draws_depend_on_their_parts_alone():
    assert uniforms(1, "a", 2) == uniforms(1, "a", 2)
    assert uniforms(1, "a", 2) != uniforms(1, "a", 3)
    assert uniforms("ab", "c") != uniforms("a", "bc")


def test_draws_are_uniform_and_their_normals_standard():
    drawn = [u for i in range(1_000) for u in uniforms("stream", i)]
    assert 0 < min(drawn) < 0.001
    assert 0.999 < max(drawn) < 1
    assert abs(fmean(drawn) - 0.5) < 0.01
    normals = [normal(u) for u in drawn]
    assert abs(fmean(normals)) < 0.03
    assert abs(pstdev(normals) - 1) < 0.03


def test_half_a_surrogate_pair_can_be_drawn_for():
    assert uniforms("\ud800") != uniforms("\ud801")
