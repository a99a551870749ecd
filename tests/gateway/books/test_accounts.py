from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.books.conftest import NOW, a_key
from zerorouter.errors import (
    BooksError,
    BudgetError,
    InputError,
    MissingPriceError,
    RateLimitError,
)
from zerorouter.gateway import counters as counters_module
from zerorouter.gateway.accounts import Accounts, new_id
from zerorouter.gateway.budgets import DAY_NS, NUSD
from zerorouter.gateway.counters import Counters

S = 1_000_000_000


@pytest.fixture
def accounts(tmp_path: Path):
    opened = Accounts(tmp_path, owner=1)
    yield opened
    opened.close()


def reserve(accounts, key, worst, *, now=NOW, mono=0, tokens=0):
    return accounts.reserve(
        key,
        request_id=new_id(now),
        worst_nusd=worst,
        tokens=tokens,
        now_ns=now,
        mono_ns=mono,
    )


def test_the_last_nano_dollar_may_be_spent_and_not_one_more(accounts, make):
    key = make(budget_day_usd=0.000000100)
    held = reserve(accounts, key, 99)
    with pytest.raises(BudgetError) as caught:
        reserve(accounts, key, 2)
    assert (caught.value.window, caught.value.left_usd) == ("day", 1e-9)
    assert caught.value.retry_after_s == (DAY_NS - NOW % DAY_NS) / S
    last = reserve(accounts, key, 1)
    accounts.settle(held, cost_nusd=99)
    accounts.settle(last, cost_nusd=1)
    with pytest.raises(BudgetError):
        reserve(accounts, key, 1)
    accounts.settle(reserve(accounts, key, 0), cost_nusd=0)


def test_what_was_reserved_too_much_is_free_again(accounts, make):
    key = make(budget_day_usd=1e-6, budget_month_usd=1e-6)
    accounts.settle(reserve(accounts, key, 1000), cost_nusd=300)
    accounts.release(reserve(accounts, key, 700))
    usage = accounts.usage(key.id, now_ns=NOW)
    assert (usage.day_spent_nusd, usage.day_reserved_nusd) == (300, 0)
    assert (usage.month_spent_nusd, usage.month_reserved_nusd) == (300, 0)
    assert (usage.day, usage.month) == ("2026-11-18", "2026-11")


def test_a_reservation_is_settled_once(accounts, make):
    held = reserve(accounts, make(), 5)
    accounts.settle(held, cost_nusd=5)
    again = reserve(accounts, make(), 5)  # takes the freed place
    assert again.place == held.place
    for end in (lambda: accounts.settle(held, cost_nusd=1), lambda: accounts.release(held)):
        with pytest.raises(BooksError, match="not open"):
            end()


def test_a_request_larger_than_the_budget_never_passes(accounts, make):
    with pytest.raises(BudgetError) as caught:
        reserve(accounts, make(budget_day_usd=1.0), 2 * NUSD)
    assert caught.value.retry_after_s is None


def test_a_missing_price_refuses_a_budgeted_key_and_no_other(accounts, make):
    for budgeted in (make(budget_day_usd=9), make(budget_month_usd=9), make(budget_day_usd=0)):
        with pytest.raises(MissingPriceError):
            reserve(accounts, budgeted, None)
    reserve(accounts, make(), None)
    held = reserve(accounts, make(budget_day_usd=9), 1)
    with pytest.raises(MissingPriceError):
        accounts.resize(held, worst_nusd=None, now_ns=NOW)


def test_a_fallback_reserves_the_difference(accounts, make):
    key = make(budget_day_usd=1e-7)
    held = reserve(accounts, key, 60)
    with pytest.raises(BudgetError):
        accounts.resize(held, worst_nusd=101, now_ns=NOW)
    held = accounts.resize(held, worst_nusd=100, now_ns=NOW)
    with pytest.raises(BudgetError):
        reserve(accounts, key, 1)
    accounts.settle(held, cost_nusd=80)
    usage = accounts.usage(key.id, now_ns=NOW)
    assert (usage.day_spent_nusd, usage.day_reserved_nusd) == (80, 0)


def test_a_cost_above_the_reservation_is_booked_and_told(accounts, make):
    key = make(budget_day_usd=1e-7)
    assert accounts.settle(reserve(accounts, key, 100), cost_nusd=130) == 30
    assert accounts.usage(key.id, now_ns=NOW).day_spent_nusd == 130
    with pytest.raises(BudgetError):
        reserve(accounts, key, 0 + 1)


def test_money_belongs_to_the_day_the_request_began(accounts, make):
    key = make(budget_day_usd=1e-7)
    before = NOW - NOW % DAY_NS + DAY_NS - 1
    held = reserve(accounts, key, 100, now=before)
    reserve(accounts, key, 100, now=before + 1)  # the next day
    accounts.settle(held, cost_nusd=90)
    assert accounts.usage(key.id, now_ns=before).day_spent_nusd == 90
    assert accounts.usage(key.id, now_ns=before + 1).day_spent_nusd == 0
    assert accounts.usage(key.id, now_ns=before + 1).month_spent_nusd == 90


def test_a_month_holds_over_its_days(accounts, make):
    key = make(budget_day_usd=1e-7, budget_month_usd=1.5e-7)
    accounts.settle(reserve(accounts, key, 100), cost_nusd=100)
    with pytest.raises(BudgetError) as caught:
        reserve(accounts, key, 51, now=NOW + DAY_NS)
    assert caught.value.window == "month"
    reserve(accounts, key, 50, now=NOW + DAY_NS)
    reserve(accounts, key, 100, now=NOW + 20 * DAY_NS)  # December


@pytest.mark.parametrize("jump", [-400 * DAY_NS, -DAY_NS, DAY_NS, 4000 * DAY_NS])
def test_a_clock_that_jumps_and_returns_opens_no_budget(accounts, make, jump):
    key = make(budget_day_usd=1e-7, budget_month_usd=1.2e-7)
    accounts.settle(reserve(accounts, key, 100), cost_nusd=100)
    with suppress(BudgetError):
        reserve(accounts, key, 20, now=NOW + jump)
    for now in (NOW, NOW + 1):
        with pytest.raises(BudgetError):
            reserve(accounts, key, 1, now=now)


def test_requests_a_minute_with_the_time_to_wait(accounts, make):
    key = make(requests_per_minute=3)
    for _ in range(3):
        reserve(accounts, key, 0, mono=7 * S)
    with pytest.raises(RateLimitError) as caught:
        reserve(accounts, key, 0, mono=7 * S)
    assert (caught.value.limit, caught.value.retry_after_s) == ("requests_per_minute", 61.0)
    with pytest.raises(RateLimitError):
        reserve(accounts, key, 0, mono=68 * S - 1)
    for _ in range(3):
        reserve(accounts, key, 0, mono=68 * S)
    with pytest.raises(RateLimitError) as caught:
        reserve(accounts, key, 0, mono=0)  # the clock of a machine that was started again
    assert caught.value.retry_after_s <= 61


def test_a_restart_of_the_gateway_frees_no_limit_and_one_of_the_machine_does(
    tmp_path, make, monkeypatch
):
    key, other = make(requests_per_minute=3), make(tokens_per_minute=10)
    accounts = Accounts(tmp_path, owner=1)
    for _ in range(3):
        reserve(accounts, key, 0, mono=7 * S)
    reserve(accounts, other, 5, mono=7 * S, tokens=10)
    accounts.close()
    accounts = Accounts(tmp_path, owner=2)
    accounts.rebuild({other.id: {NOW // DAY_NS: 5}})
    for one in (key, other):
        with pytest.raises(RateLimitError):
            reserve(accounts, one, 0, mono=60 * S, tokens=1)
    assert accounts.usage(other.id, now_ns=NOW).day_spent_nusd == 5
    reserve(accounts, key, 0, mono=68 * S)
    accounts.close()
    monkeypatch.setattr(counters_module, "_boot_id", lambda: b"another boot ...")
    accounts = Accounts(tmp_path, owner=3)
    accounts.rebuild({})
    reserve(accounts, key, 0, mono=1 * S)
    reserve(accounts, other, 0, mono=1 * S, tokens=10)
    accounts.close()


def test_tokens_a_minute_follow_the_real_number(accounts, make):
    key = make(tokens_per_minute=1000)
    held = reserve(accounts, key, 0, tokens=900)
    with pytest.raises(RateLimitError) as caught:
        reserve(accounts, key, 0, tokens=200)
    assert (caught.value.limit, caught.value.retry_after_s) == ("tokens_per_minute", 61.0)
    accounts.settle(held, cost_nusd=0, tokens=100)
    reserve(accounts, key, 0, tokens=900)
    with pytest.raises(RateLimitError) as caught:
        reserve(accounts, key, 0, tokens=1001)
    assert caught.value.retry_after_s is None


def test_a_refused_request_counts_against_nothing(accounts, make):
    key = make(requests_per_minute=1, tokens_per_minute=10, budget_day_usd=1e-9)
    for worst, tokens in ((5, 1), (1, 11)):
        with pytest.raises((BudgetError, RateLimitError)):
            reserve(accounts, key, worst, tokens=tokens)
    reserve(accounts, key, 1, tokens=10)


def test_ids_that_are_none_are_refused(accounts, make):
    for wrong in ("", "abc", "g" * 32, "ab " * 16, "0" * 34):
        with pytest.raises(InputError, match="32 hexadecimal"):
            accounts.reserve(make(), request_id=wrong, worst_nusd=0, now_ns=NOW, mono_ns=0)


# -- at once ------------------------------------------------------------------------------------


def test_threads_at_the_boundary_get_exactly_the_budget(tmp_path, make):
    key = make(budget_day_usd=3e-7)
    accounts = Accounts(tmp_path, owner=1)
    passed = []

    def work():
        for _ in range(200):
            with suppress(BudgetError):
                passed.append(reserve(accounts, key, 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 300
    assert len({held.place for held in passed}) == 300
    assert accounts.usage(key.id, now_ns=NOW).day_reserved_nusd == 300
    accounts.close()


WORKER = """
import sys, random
from contextlib import suppress
from pathlib import Path
from zerorouter.errors import AccessError
from zerorouter.gateway.accounts import Accounts, new_id
from zerorouter.gateway.keys import VirtualKey
key = VirtualKey(id="abcabcabcabc", name="k", hash="", budget_day_nusd=int(sys.argv[2]),
                 requests_per_minute=int(sys.argv[3]) or None)
accounts = Accounts(Path(sys.argv[1]), owner=int(sys.argv[4]))
draw = random.Random(int(sys.argv[4]))
spent = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[5])):
    with suppress(AccessError):
        held = accounts.reserve(key, request_id=new_id(@NOW), worst_nusd=10, now_ns=@NOW, mono_ns=0)
        cost = draw.randint(0, 10)
        accounts.settle(held, cost_nusd=cost)
        spent += cost
        print(spent, flush=True)
""".replace("@NOW", str(NOW))


def start_workers(folder, n, *, budget, per_minute=0, turns=400):
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WORKER,
                str(folder),
                str(budget),
                str(per_minute),
                str(i + 1),
                str(turns),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    return running


def test_processes_at_the_boundary_share_one_budget(tmp_path):
    budget = 3_000
    running = start_workers(tmp_path, 4, budget=budget)
    told = [process.communicate(timeout=120)[0].split() for process in running]
    spent = sum(int(lines[-1]) for lines in told if lines)
    accounts = Accounts(tmp_path, owner=9)
    usage = accounts.usage("abcabcabcabc", now_ns=NOW)
    assert usage.day_spent_nusd == spent
    assert usage.day_reserved_nusd == 0
    assert budget - 10 < spent <= budget  # spent up to where a worst case no longer fits
    accounts.close()


def test_processes_share_one_rate_limit(tmp_path):
    running = start_workers(tmp_path, 4, budget=10**9, per_minute=150, turns=100)
    passed = sum(len(p.communicate(timeout=120)[0].split()) for p in running)
    assert passed == 150


def test_processes_killed_at_any_instruction_leave_a_whole_file(tmp_path):
    for _ in range(6):
        running = start_workers(tmp_path, 2, budget=10**9, turns=10**6)
        for process in running:
            for _ in range(50):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        for process in running:
            process.communicate(timeout=60)
    accounts = Accounts(tmp_path, owner=9)
    left = accounts.open_reservations()
    usage = accounts.usage("abcabcabcabc", now_ns=NOW)
    assert usage.day_reserved_nusd == sum(found.amount_nusd for found in left)
    assert len(left) <= 12  # one of each that was killed
    for found in left:
        accounts.settle_found(found, found.amount_nusd)
        accounts.settle_found(found, found.amount_nusd)  # not twice
    after = accounts.usage("abcabcabcabc", now_ns=NOW)
    assert after.day_reserved_nusd == 0
    assert after.day_spent_nusd == usage.day_spent_nusd + 10 * len(left)
    accounts.close()


class Killed(BaseException):
    pass


class Dying:
    """A map whose holder dies after some writes."""

    def __init__(self, area, writes):
        self._area, self._left = area, writes

    def __setitem__(self, at, value):
        if self._left == 0:
            raise Killed
        self._left -= 1
        self._area[at] = value

    def __getitem__(self, at):
        return self._area[at]


@pytest.mark.parametrize("writes", range(6))
def test_a_change_cut_short_anywhere_happened_wholly_or_not_at_all(tmp_path, writes):
    counters = Counters(tmp_path)
    with counters:
        at = counters.account("aaaa")
        whole = counters._map
        counters._map = Dying(whole, writes)
        with suppress(Killed):
            base = counters_module._ACCOUNTS_AT + 16
            counters.commit((base, bytes([1] * 8)), (base + 8, bytes([1] * 8)))
        counters._map = whole
    with counters:
        first, second = counters.numbers(at)[:2]
    assert first == second
    assert (first != 0) == (writes >= 2)  # from the mark on it counts
    counters.close()


def test_a_fork_may_not_use_its_parents_books(accounts, make, monkeypatch):
    monkeypatch.setattr(counters_module.os, "getpid", lambda: -1)
    with pytest.raises(BooksError, match="fork"):
        reserve(accounts, make(), 1)


def test_many_places_are_used_again(accounts, make):
    key = make()
    held = [reserve(accounts, key, 1) for _ in range(50)]
    for one in held:
        accounts.release(one)
    again = {reserve(accounts, key, 1).place for _ in range(50)}
    assert again == {one.place for one in held}


def test_no_more_reservations_than_there_is_room_for(accounts, make, monkeypatch):
    monkeypatch.setattr(counters_module, "N_RESERVATIONS", 2)
    key = make()
    held = reserve(accounts, key, 1)
    reserve(accounts, key, 1)
    with pytest.raises(BooksError, match="under way"):
        reserve(accounts, key, 1)
    accounts.release(held)
    reserve(accounts, key, 1)


# -- the law ------------------------------------------------------------------------------------


class Money(RuleBasedStateMachine):
    """Against plain dictionaries: no budget is exceeded, and sums are those of what was settled."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.accounts = Accounts(Path(self.folder.name), owner=1)
        self.key = a_key(budget_day_usd=1e-7, budget_month_usd=1.8e-7)
        self.now = NOW
        self.open = []
        self.days: dict[int, int] = {}
        self.settled = 0

    @rule(hours=st.integers(0, 30))
    def wait(self, hours):
        self.now = min(self.now + hours * 3600 * S, NOW + 3 * DAY_NS)

    @rule(worst=st.integers(0, 60))
    def reserve(self, worst):
        day = self.now // DAY_NS
        held_day = sum(h.amount_nusd for h in self.open if h.started_ns // DAY_NS == day)
        held = sum(h.amount_nusd for h in self.open)
        fits = (
            self.days.get(day, 0) + held_day + worst <= 100
            and sum(self.days.values()) + held + worst <= 180
        )
        try:
            self.open.append(reserve(self.accounts, self.key, worst, now=self.now))
            assert fits
        except BudgetError:
            assert not fits

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data):
        held = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        cost = data.draw(st.integers(0, held.amount_nusd))
        assert self.accounts.settle(held, cost_nusd=cost) == 0
        day = held.started_ns // DAY_NS
        self.days[day] = self.days.get(day, 0) + cost
        self.settled += cost

    @precondition(lambda self: self.open)
    @rule()
    def release(self):
        self.accounts.release(self.open.pop())

    @invariant()
    def spent_is_what_was_settled_and_within_the_budget(self):
        usage = self.accounts.usage(self.key.id, now_ns=self.now)
        assert usage.month_spent_nusd == self.settled <= 180
        assert usage.day_spent_nusd == self.days.get(self.now // DAY_NS, 0) <= 100
        assert usage.month_reserved_nusd == sum(h.amount_nusd for h in self.open)

    def teardown(self):
        self.accounts.close()
        self.folder.cleanup()


Money.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_no_budget_is_exceeded_whatever_comes_when = Money.TestCase
