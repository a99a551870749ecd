from __future__ import annotations

from sandbox.records import PRICE, ask, make_sandbox
from zerorouter.sandbox.calls import CallLog


def test_calls_are_counted_with_the_concurrency_they_met():
    log = CallLog(10)
    calls = [log.begin("/v1/messages") for _ in range(3)]
    for call in calls:
        log.identify(call, "able", "p", None)
    for call in calls:
        call.status = 200
        log.finish(call)
    told = log.to_dict(latest=5, prompts=True)
    assert (told["total"], told["in_flight"], told["peak_in_flight"]) == (3, 0, 3)
    assert [call["concurrency"] for call in told["latest"]] == [1, 2, 3]
    assert told["models"]["able"]["peak_in_flight"] == 3
    assert told["statuses"] == {"200": 3}
    assert told["prompts"] == [{"model": "able", "prompt": "p", "calls": 3}]


def test_what_was_answered_is_billed_at_the_model_price():
    log, sandbox = CallLog(10), make_sandbox(answer_tokens=100)
    call = log.begin("/v1/chat/completions")
    log.identify(call, "able", "p", PRICE)
    plan = sandbox.plan(ask())
    log.bill(call, plan)
    log.finish(call)
    told = log.to_dict()["models"]["able"]
    assert (told["input_tokens"], told["output_tokens"]) == (plan.usage.input_tokens, 100)
    assert told["usd"] == (plan.usage.input_tokens * 2.0 + 100 * 8.0) / 1e6


def test_forgetting_keeps_what_still_runs():
    log = CallLog(10)
    done, running = log.begin("/a"), log.begin("/b")
    for call in (done, running):
        log.identify(call, "able", "p", None)
    log.finish(done)
    log.clear()
    told = log.to_dict()
    assert (told["total"], told["in_flight"], told["models"]["able"]["in_flight"]) == (0, 1, 1)
    log.finish(running)
    told = log.to_dict()
    assert (told["in_flight"], told["models"]["able"]["in_flight"]) == (0, 0)


def test_only_the_latest_calls_are_kept():
    log = CallLog(2)
    for _ in range(5):
        log.finish(log.begin("/a"))
    told = log.to_dict(latest=100)
    assert [call["number"] for call in told["latest"]] == [4, 5]
    assert told["total"] == 5
