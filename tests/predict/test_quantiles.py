from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from zerorouter.predict.quantiles import normal_quantile, student_quantile


@given(st.floats(1e-9, 1 - 1e-9))
def test_normal_quantiles_are_those_of_scipy(q):
    assert normal_quantile(q) == pytest.approx(norm.ppf(q), rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 0.99), st.floats(3, 200))
def test_student_quantiles_are_within_two_percent_of_scipy(q, dof):
    assert student_quantile(q, dof) == pytest.approx(t.ppf(q, dof), rel=0.02, abs=1e-3)


@pytest.mark.parametrize("q", [0, 1, -0.1, 1.1, float("nan")])
def test_what_is_no_probability_has_no_quantile(q):
    with pytest.raises(ValueError, match="between 0 and 1"):
        normal_quantile(q)
