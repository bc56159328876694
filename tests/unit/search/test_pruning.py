from __future__ import annotations

import random
from collections import Counter
from statistics import median

import pytest

from keeptune.search.pruning import (
    AshaPruning,
    AshaRule,
    HyperbandPruning,
    HyperbandRule,
    MedianPruning,
    MedianRule,
    rule_for,
)


def finish(rule: MedianRule, trial: int, *losses: float, completed: bool = True) -> None:
    for step, loss in enumerate(losses, start=1):
        rule.observe(trial, step, loss)
    rule.finish(trial, completed=completed)


def test_median_compares_the_best_with_running_means() -> None:
    rule = MedianRule(MedianPruning(startup_trials=3, warmup_steps=1))
    for trial, loss in enumerate((1.0, 2.0, 3.0)):
        finish(rule, trial, 10 * loss, loss)
    # Means at step 2: 5.5, 11, 16.5; their median is 11.
    assert rule.verdict(9, [(2, 11.0)]) == ""
    assert "median of 3" in rule.verdict(9, [(2, 11.1)])
    # A good loss earlier is enough.
    assert rule.verdict(9, [(1, 10.0), (2, 99.0)]) == ""
    rule.observe(9, 1, 10.0)
    assert rule.verdict(9, [(2, 99.0)]) == ""


def test_median_spares_the_first_trials_and_steps() -> None:
    rule = MedianRule(MedianPruning(startup_trials=2, warmup_steps=3))
    finish(rule, 1, *[1.0] * 6)
    assert rule.verdict(9, [(5, 9.0)]) == ""
    finish(rule, 2, *[1.0] * 6)
    assert rule.verdict(9, [(3, 9.0)]) == ""
    assert rule.verdict(9, [(4, 9.0)])
    assert rule.verdict(9, [(7, 9.0)]) == ""


def test_median_learns_from_completed_trials_only() -> None:
    rule = MedianRule(MedianPruning(startup_trials=1))
    finish(rule, 1, 1.0, 1.0, completed=False)
    rule.observe(2, 2, 1.0)
    assert rule.verdict(9, [(2, 9.0)]) == ""


def test_median_counts_a_step_once() -> None:
    rule = MedianRule(MedianPruning(startup_trials=1))
    rule.observe(1, 2, 1.0)
    rule.observe(1, 2, 99.0)
    rule.finish(1, completed=True)
    assert rule.verdict(9, [(2, 1.5)])
    assert rule.verdict(9, []) == ""


def test_median_agrees_with_the_plain_formula() -> None:
    rng = random.Random(0)
    rule = MedianRule(MedianPruning(startup_trials=4))
    curves = [[rng.random() for _ in range(5)] for _ in range(40)]
    for trial, curve in enumerate(curves):
        if trial >= 4:
            for step in range(2, 6):
                means = [sum(c[:step]) / step for c in curves[:trial]]
                fresh = list(enumerate(curve[:step], start=1))
                pruned = bool(rule.verdict(trial, fresh))
                assert pruned == (min(curve[:step]) > median(means))
        finish(rule, trial, *curve)


def test_asha_keeps_the_best_fraction_of_each_rung() -> None:
    rule = AshaRule(AshaPruning(min_steps=2, reduction_factor=3))
    assert rule.verdict(1, [(2, 5.0)]) == ""
    rule.observe(1, 2, 5.0)
    assert rule.verdict(2, [(2, 6.0)]) == ""
    rule.observe(2, 2, 6.0)
    assert rule.verdict(3, [(1, 9.0)]) == ""
    assert "the best 1 of 3" in rule.verdict(3, [(2, 5.5)])
    assert rule.verdict(3, [(2, 4.0)]) == ""
    rule.observe(3, 2, 4.0)
    # The next rung stands at 6; between the rungs nothing is judged.
    assert rule.verdict(3, [(5, 99.0)]) == ""
    assert rule.verdict(3, [(6, 99.0)]) == ""


def test_asha_judges_a_late_report_at_every_rung_it_passes() -> None:
    rule = AshaRule(AshaPruning(min_steps=1, reduction_factor=2))
    for trial in (1, 2):
        for step in (1, 2, 4):
            rule.observe(trial, step, 1.0)
    assert "step 1 " in rule.verdict(3, [(4, 2.0)])
    assert rule.verdict(3, [(4, 0.5)]) == ""


def test_asha_prunes_about_all_but_the_fraction() -> None:
    rng = random.Random(0)
    rule = AshaRule(AshaPruning(min_steps=1, reduction_factor=4))
    survivors = 0
    for trial in range(2000):
        loss = rng.random()
        survivors += not rule.verdict(trial, [(1, loss)])
        rule.observe(trial, 1, loss)
        rule.finish(trial, completed=False)
    assert survivors / 2000 == pytest.approx(0.25, abs=0.04)


def test_hyperband_deals_trials_out_as_the_paper_does() -> None:
    rule = HyperbandRule(HyperbandPruning(max_steps=81))
    # Table 1 of the paper: 81, 34, 15, 8 and 5 configurations of 143.
    counts = Counter(map(rule.bracket, range(1, 1431)))
    assert [round(counts[i] / 10) for i in range(5)] == [81, 34, 15, 8, 5]
    # Each stretch has its share of the bold and of the cautious.
    assert all(len({rule.bracket(t) for t in range(s, s + 30)}) >= 4 for s in range(1, 1400))


def test_hyperband_races_only_within_a_bracket() -> None:
    rule = HyperbandRule(HyperbandPruning(max_steps=9, min_steps=1, reduction_factor=3))
    of: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for trial in range(1, 60):
        of[rule.bracket(trial)].append(trial)
    for trial in of[0][:-1]:
        rule.observe(trial, 1, 1.0)
    assert "of bracket 1" in rule.verdict(of[0][-1], [(1, 2.0)])
    assert rule.verdict(of[0][-1], [(1, 0.5)]) == ""
    # The second begins to prune at step 3, and has seen nobody yet.
    assert rule.verdict(of[1][0], [(1, 2.0), (3, 2.0)]) == ""
    for trial in of[1][:-1]:
        rule.observe(trial, 3, 1.0)
    assert "step 3 " in rule.verdict(of[1][-1], [(2, 2.0), (3, 2.0)])
    # The last lets everybody go on, and at its end a trial is done in any of them.
    for trial in of[2][:-1]:
        for step in range(1, 10):
            rule.observe(trial, step, 1.0)
    assert rule.verdict(of[2][-1], [(step, 9.0) for step in range(1, 10)]) == ""
    for trial in of[1][:-1]:
        rule.observe(trial, 9, 1.0)
    assert rule.verdict(of[1][-1], [(3, 0.5), (9, 9.0)]) == ""


def test_rules_have_their_settings() -> None:
    assert isinstance(rule_for(HyperbandPruning(max_steps=10)), HyperbandRule)
    assert isinstance(rule_for(MedianPruning()), MedianRule)
    assert isinstance(rule_for(AshaPruning()), AshaRule)
