"""Metrics of several processes as one text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from zerorouter.gateway.workers.merging import merge

TEXT = """# HELP a_total Things.
# TYPE a_total counter
a_total{x="1 {} ,\\"}"} 2.0
a_total{x="2"} 1.0
# HELP d_seconds How long.
# TYPE d_seconds histogram
d_seconds_bucket{le="0.1"} 1.0
d_seconds_bucket{le="+Inf"} 3.0
d_seconds_sum 1.5
d_seconds_count 3.0
# HELP q_depth Now.
# TYPE q_depth gauge
q_depth 4.0
# HELP c_state 0 closed, 2 open.
# TYPE c_state gauge
c_state{u="a"} 2.0
# HELP r_successful The last one.
# TYPE r_successful gauge
r_successful 1.0
"""


def samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in found
            found[name] = float(value)
    return found


def test_sums_add_up_and_states_take_the_worst() -> None:
    other = TEXT.replace('c_state{u="a"} 2.0', 'c_state{u="a"} 0.0').replace(
        "r_successful 1.0", "r_successful 0.0"
    )
    both = samples(merge([TEXT, other + 'a_total{x="3"} 7.0\n']))
    assert both['a_total{x="1 {} ,\\"}"}'] == 4
    assert both['a_total{x="3"}'] == 7
    assert both['d_seconds_bucket{le="+Inf"}'] == 6
    assert (both["d_seconds_sum"], both["d_seconds_count"], both["q_depth"]) == (3.0, 6, 8)
    assert (both['c_state{u="a"}'], both["r_successful"]) == (2, 0)


def test_of_one_that_ended_its_counts_remain_and_its_gauges_go() -> None:
    both = samples(merge([TEXT], dead=[TEXT, TEXT]))
    assert both['a_total{x="2"}'] == 3
    assert both["d_seconds_count"] == 9
    assert both["q_depth"] == 4
    again = merge([], dead=[merge([], dead=[TEXT]), TEXT])
    assert samples(again)["d_seconds_sum"] == 3.0


def test_a_single_text_stays_as_it_is_and_heads_stand_once() -> None:
    assert merge([TEXT]) == TEXT
    assert merge([TEXT, TEXT]).count("# TYPE") == TEXT.count("# TYPE")


values = st.floats(allow_nan=False) | st.integers(0, 2**60).map(float)


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), values, max_size=8), max_size=5))
def test_it_is_the_sum_by_name_whatever_is_written(workers: list[dict[str, float]]) -> None:
    texts = [
        "# TYPE t counter\n" + "".join(f't{{k="{k}"}} {v!r}\n' for k, v in one.items())
        for one in workers
    ]
    found = samples(merge(texts))
    for name in "abcdefgh":
        told = [one[name] for one in workers if name in one]
        if told:
            total = found[f't{{k="{name}"}}']
            assert total == sum(told) or math.isnan(total)


def test_what_the_library_writes_is_understood() -> None:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

    registry = CollectorRegistry()
    Counter("n", "Of things.", ("a",), registry=registry).labels('x"\n\\').inc(2)
    Histogram("h", "How long.", registry=registry).observe(0.2)
    Gauge("g", "Now.", registry=registry).set(3)
    text = generate_latest(registry).decode()
    both = samples(merge([text, text]))
    assert both['n_total{a="x\\"\\n\\\\"}'] == 4
    assert both["h_count"] == 2
    assert both["g"] == 6
