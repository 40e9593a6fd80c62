"""The statistics say what scipy says of the same data, and keep their promises where scipy has none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import isotonic_regression
from scipy.spatial.distance import jensenshannon

from reconcilers.calibration import PULL, calibrate, estimated_accuracy
from reconcilers.distances import distance
from reconcilers.distributions import beta_share, binomial_share, chi_square_quantile, t_quantile
from reconcilers.statistics import LEVEL, Estimate, centres, difference, mean, proportion, quantile, scale, tail
from specs.monitoring import Method
from specs.traffic import BRIGHTNESS, BY_CLASS, CONFIDENCE, OF_PICTURES, PIXELS, SECONDS, SHARPNESS, Measure
from tests.support.counts import counted

METHODS: tuple[Method, ...] = ("psi", "js", "ks", "wasserstein")
COUNTS = st.lists(st.integers(0, 500).map(float), min_size=CONFIDENCE.bins, max_size=CONFIDENCE.bins).filter(any)
FRACTIONS = st.lists(
    st.floats(0, 1e6, allow_subnormal=False), min_size=CONFIDENCE.bins, max_size=CONFIDENCE.bins
).filter(lambda counts: sum(counts) > 1e-3)


def ordered(found: Estimate) -> bool:
    """Whether an estimate is a number within its interval."""
    return found.low <= found.value <= found.high and math.isfinite(found.value) and not math.isnan(found.high)


# ------------------------------------------------------------------------------------------------- distributions
@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 3), (3, 98), (300, 99_701), (5e5, 5e5), (1e6, 2)])
def test_the_incomplete_beta_function_is_scipys(a: float, b: float) -> None:
    """Shares of a beta distribution agree to nine digits, from its one end to the other."""
    for share in (0.001, 0.005, 0.5, 0.9, 0.995):
        x = float(stats.beta.ppf(share, a, b))
        assert beta_share(x, a, b) == pytest.approx(float(stats.beta.cdf(x, a, b)), rel=1e-8)


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 9, 19, 200])
def test_quantiles_of_chi_square_are_scipys(freedom: float) -> None:
    """Wilson and Hilferty's cube is right to a percent where intervals end."""
    assert chi_square_quantile(0.995, freedom) == pytest.approx(float(stats.chi2.ppf(0.995, freedom)), rel=1e-2)


@pytest.mark.parametrize("freedom", [5, 9, 30, 1000])
def test_quantiles_of_t_are_scipys(freedom: float) -> None:
    """The series is right to a percent from five degrees of freedom on."""
    assert t_quantile(0.995, freedom) == pytest.approx(float(stats.t.ppf(0.995, freedom)), rel=1e-2)


@pytest.mark.parametrize(("hits", "n", "chance"), [(0, 10, 0.3), (3, 10, 0.3), (10, 10, 0.3), (940, 1000, 0.95)])
def test_binomial_shares_are_scipys(hits: int, n: int, chance: float) -> None:
    """How likely so few hits are is exact."""
    assert binomial_share(hits, n, chance) == pytest.approx(float(stats.binom.cdf(hits, n, chance)), rel=1e-9)


# ------------------------------------------------------------------------------------------------ one-sample numbers
@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 100), (5, 7), (7, 7), (300, 100_000), (99_990, 100_000)])
def test_intervals_of_shares_are_the_exact_ones(hits: int, n: int) -> None:
    """They are Clopper and Pearson's, as scipy computes them."""
    exact = stats.binomtest(hits, n).proportion_ci(LEVEL, "exact")
    found = proportion(hits, n)
    assert (found.value, found.n) == (hits / n, n)
    assert (found.low, found.high) == (pytest.approx(exact.low, abs=1e-8), pytest.approx(exact.high, abs=1e-8))


def test_a_share_of_nothing_may_be_anything() -> None:
    """Without trials the interval is everything."""
    assert proportion(0, 0) == Estimate(0.0, 0.0, 1.0, 0.0)


def test_rare_errors_are_no_alarm() -> None:
    """One error in 100 requests is no proof of more than 0.1 %, though Wilson's interval would take it for one."""
    wilson = stats.binomtest(1, 100).proportion_ci(LEVEL, "wilson")
    assert wilson.low > 0.001 > proportion(1, 100).low


def test_a_quantile_is_out_of_an_edge_when_a_test_says_so() -> None:
    """The interval leaves an edge out exactly where scipy's test of quantiles rejects it."""
    draw = np.random.default_rng(1)
    for _ in range(40):
        values = draw.gamma(2.0, 0.02, 150)
        found = quantile(counted(SECONDS, values), SECONDS, 0.95)
        assert ordered(found)
        for edge in SECONDS.edges:
            slower = stats.quantile_test(values, q=edge, p=0.95, alternative="greater").pvalue <= tail()
            faster = stats.quantile_test(values, q=edge, p=0.95, alternative="less").pvalue <= tail()
            assert (found.low > edge, found.high <= edge) == (slower, faster), edge


def test_a_quantile_is_interpolated_as_prometheus_does() -> None:
    """Half of 100 values in one bin put the median into its middle."""
    counts = tuple(100.0 if edge == 0.075 else 0.0 for edge in (*SECONDS.edges, 0))
    assert quantile(counts, SECONDS, 0.5).value == pytest.approx((0.05 + 0.075) / 2)


def test_beyond_the_last_edge_nobody_knows() -> None:
    """Requests slower than every edge have no upper end, and their value is the last edge."""
    found = quantile((0.0,) * (SECONDS.bins - 1) + (50.0,), SECONDS, 0.95)
    assert (found.value, found.high) == (SECONDS.edges[-1], math.inf)


def test_what_lies_in_a_bin_is_above_its_lower_edge() -> None:
    """A bound on an edge is exceeded as soon as the quantile is in the bin above it beyond doubt."""
    counts = [0.0] * SECONDS.bins
    counts[SECONDS.edges.index(0.1)] = 1000.0  # from above 75 ms up to 100 ms
    assert quantile(counts, SECONDS, 0.95).low > 0.075


def test_a_mean_has_the_interval_of_t() -> None:
    """Of many evenly leaning values it is Student's, but for the width of bins."""
    values = np.random.default_rng(2).normal(0.5, 0.1, 400)
    found = mean(counted(CONFIDENCE, values), CONFIDENCE)
    low, high = stats.t.interval(LEVEL, 399, values.mean(), stats.sem(values))
    assert found.value == pytest.approx(values.mean(), abs=0.005)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))


@pytest.mark.parametrize("counts", [(0.0,) * CONFIDENCE.bins, (1.0,) + (0.0,) * (CONFIDENCE.bins - 1)])
def test_a_mean_needs_two_values(counts: tuple[float, ...]) -> None:
    """Less than two values say nothing of how they vary."""
    with pytest.raises(ValueError, match="needs 2 values"):
        mean(counts, CONFIDENCE)


def test_a_mean_of_leaning_values_leans() -> None:
    """Where nearly all confidences are high and few far below, as often as Student's interval would not be above."""
    draw = np.random.default_rng(2)
    truth = float(np.dot(counted(CONFIDENCE, draw.beta(3, 0.15, 400_000)), centres(CONFIDENCE)) / 4e5)
    found = [mean(counted(CONFIDENCE, row), CONFIDENCE) for row in draw.beta(3, 0.15, (800, 80))]
    assert sum(each.low > truth for each in found) <= 18
    assert sum(each.high < truth for each in found) <= 9


# ----------------------------------------------------------------------------------------------------- differences
def test_differences_of_means_are_welchs() -> None:
    """Two means of binned confidences differ as a t-test without equal variances says."""
    draw = np.random.default_rng(3)
    new, old = draw.normal(0.5, 0.1, 300), draw.normal(0.55, 0.05, 700)
    found = difference(mean(counted(CONFIDENCE, new), CONFIDENCE), mean(counted(CONFIDENCE, old), CONFIDENCE))
    welch = stats.ttest_ind(new, old, equal_var=False).confidence_interval(LEVEL)
    assert (found.low, found.high) == (pytest.approx(welch.low, abs=2e-3), pytest.approx(welch.high, abs=2e-3))
    assert found.n == 300


def test_differences_of_shares_are_newcombes_with_exact_ends() -> None:
    """Distances to the ends of both intervals are squared and added."""
    new, old = (stats.binomtest(hits, n).proportion_ci(LEVEL, "exact") for hits, n in ((9, 200), (4, 1000)))
    found = difference(proportion(9, 200), proportion(4, 1000))
    assert found.value == pytest.approx(0.041)
    assert found.low == pytest.approx(0.041 - math.hypot(0.045 - new.low, old.high - 0.004))
    assert found.high == pytest.approx(0.041 + math.hypot(new.high - 0.045, 0.004 - old.low))


def test_a_difference_to_what_has_no_end_has_none() -> None:
    """An old version slower than every edge may have been any slower: the new one may be better without end."""
    slow = quantile((0.0,) * (SECONDS.bins - 1) + (50.0,), SECONDS, 0.95)
    fast = quantile((50.0,) + (0.0,) * (SECONDS.bins - 1), SECONDS, 0.5)
    found = difference(fast, slow)
    assert found.low == -math.inf
    assert not math.isnan(found.high)
    assert not math.isnan(difference(slow, slow).value)


@pytest.mark.parametrize(("share", "n", "before", "m"), [(0.01, 200, 0.01, 2000), (0.3, 100, 0.5, 60)])
def test_differences_of_shares_miss_no_more_than_stated(share: float, n: int, before: float, m: int) -> None:
    """Over 1,000 samples each end misses the truth in at most 0.5 %, and chance."""
    draw = np.random.default_rng(4)
    news, olds = draw.binomial(n, share, 1000), draw.binomial(m, before, 1000)
    found = [difference(proportion(int(a), n), proportion(int(b), m)) for a, b in zip(news, olds, strict=True)]
    assert sum(each.low > share - before for each in found) <= 12
    assert sum(each.high < share - before for each in found) <= 12


# ------------------------------------------------------------------------------------------------------- distances
def _sides(seed: int, measure: Measure = CONFIDENCE) -> tuple[list[float], list[float]]:
    """Give two samples of shares without sampling error: as if of a thousand million values."""
    draw = np.random.default_rng(seed)
    live, golden = draw.dirichlet(np.ones(measure.bins)), draw.dirichlet(np.ones(measure.bins))
    return [float(share) * 1e15 for share in live], [float(share) * 1e15 for share in golden]


@pytest.mark.parametrize("seed", range(5))
def test_distances_of_many_values_are_scipys(seed: int) -> None:
    """Without sampling error nothing is corrected, and each distance is what scipy computes."""
    live, golden = _sides(seed)
    at = centres(CONFIDENCE)
    p, q = np.array(golden) / 1e15, np.array(live) / 1e15
    expected = {
        "psi": float(np.sum((q - p) * np.log(q / p))),
        "js": float(jensenshannon(q, p, base=2)),
        "ks": float(np.abs(np.cumsum(q - p)).max()),
        "wasserstein": float(stats.wasserstein_distance(at, at, q, p)),
    }
    for method in METHODS:
        found = distance(method, live, golden, CONFIDENCE)
        assert found.value == pytest.approx(expected[method], rel=1e-6), method
        assert (found.low, found.high) == (pytest.approx(found.value, rel=1e-4), pytest.approx(found.value, rel=1e-4))


@pytest.mark.parametrize("measure", OF_PICTURES.values(), ids=OF_PICTURES)
def test_wasserstein_is_in_the_unit_of_its_measure(measure: Measure) -> None:
    """All values one bin further on is the distance of the middles of the two bins; for sizes, two doublings."""
    live, golden = ([0.0] * measure.bins for _ in range(2))
    live[4], golden[3] = 1e12, 1e12
    step = centres(measure)[4] - centres(measure)[3]
    assert distance("wasserstein", live, golden, measure).value == pytest.approx(step)
    assert step == pytest.approx(2) if measure is PIXELS else step < 2
    assert len(scale(measure)) == measure.bins + 1


def test_ks_is_beyond_doubt_later_than_scipys_test() -> None:
    """Bins hide something, so what is beyond doubt here is significant there."""
    draw = np.random.default_rng(5)
    for _ in range(60):
        live, golden = draw.normal(0.53, 0.12, 200), draw.normal(0.5, 0.12, 400)
        found = distance("ks", counted(BRIGHTNESS, live), counted(BRIGHTNESS, golden), BRIGHTNESS)
        if found.low > 0:
            assert stats.ks_2samp(live, golden).pvalue < 2 * tail()


def test_psi_is_beyond_doubt_where_chi_square_says_so() -> None:
    """The low end of psi leaves 0 with the p-value of scipy's test of homogeneity, for counts that are not sparse."""
    draw = np.random.default_rng(6)
    agreed = 0
    for _ in range(200):
        live, golden = draw.multinomial(2000, [0.2] * 5), draw.multinomial(1500, [0.21, 0.21, 0.2, 0.19, 0.19])
        found = distance("psi", live.tolist(), golden.tolist(), None).low > 0
        agreed += found == (stats.chi2_contingency([live, golden]).pvalue < tail())
    assert agreed >= 196


@given(COUNTS, COUNTS, st.sampled_from(METHODS))
def test_distances_are_symmetric(live: list[float], golden: list[float], method: Method) -> None:
    """Live against golden is golden against live, but for whose n is told."""
    one, other = distance(method, live, golden, CONFIDENCE), distance(method, golden, live, CONFIDENCE)
    assert (one.value, one.low, one.high) == tuple(
        pytest.approx(each, rel=1e-9, abs=1e-9) for each in (other.value, other.low, other.high)
    )


@given(FRACTIONS, FRACTIONS, st.sampled_from(METHODS), st.sampled_from([CONFIDENCE, BRIGHTNESS, SHARPNESS]))
def test_distances_are_numbers(live: list[float], golden: list[float], method: Method, measure: Measure) -> None:
    """Whatever the counts, a distance lies within its interval, is never below 0, and js and ks never above 1."""
    golden = golden[: measure.bins] + [1.0] * (measure.bins - len(golden))
    live = live[: measure.bins] + [0.0] * (measure.bins - len(live)) if any(live[: measure.bins]) else golden
    found = distance(method, live, golden, measure)
    assert ordered(found)
    assert found.low >= 0
    assert math.isfinite(found.high)
    assert method not in ("js", "ks") or found.high <= 1


@given(COUNTS, st.sampled_from(METHODS))
def test_the_same_counts_are_no_distance_apart(counts: list[float], method: Method) -> None:
    """Counts that are equal, or the same shares of another number, are at distance 0."""
    found = distance(method, [3 * count for count in counts], counts, CONFIDENCE)
    assert (found.value, found.low) == (pytest.approx(0, abs=1e-6), 0)


@pytest.mark.parametrize("method", METHODS[:2])
def test_rare_classes_do_not_hide_a_common_one(method: Method) -> None:
    """Sixty classes of which one grows: the rare ones are counted together, so that chance in them weighs little."""
    draw = np.random.default_rng(10)
    before, now = np.full(60, 1 / 60), np.full(60, 0.8 / 59)
    now[0] = 0.2
    found = [
        distance(method, draw.multinomial(100, now).tolist(), draw.multinomial(360, before).tolist(), None).low > 0
        for _ in range(100)
    ]
    assert sum(found) >= 70


@pytest.mark.parametrize("method", METHODS)
def test_one_bin_is_no_distance(method: Method) -> None:
    """Where all values of both sides share a bin there is nothing to tell apart."""
    counts = [0.0] * (CONFIDENCE.bins - 1) + [40.0]
    assert distance(method, counts, [2 * count for count in counts], CONFIDENCE) == Estimate(0.0, 0.0, 0.0, 40.0)


def test_a_distance_to_nothing_is_none() -> None:
    """Both sides need values."""
    with pytest.raises(ValueError, match="both sides"):
        distance("psi", [0.0, 0.0], [1.0, 2.0], None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "m"), [(30, 360), (400, 360)])
def test_chance_is_no_distance(method: Method, n: int, m: int) -> None:
    """Of 1,500 samples from golden's own distribution about 0.5 % are beyond doubt, however small they are.

    So it is with any bound, even 0; the corrected values are near 0.
    """
    draw = np.random.default_rng(7)
    shares = counted(CONFIDENCE, draw.beta(8, 1.2, 200_000))
    chances = np.array(shares) / sum(shares)
    found = [
        distance(method, draw.multinomial(n, chances).tolist(), draw.multinomial(m, chances).tolist(), CONFIDENCE)
        for _ in range(1500)
    ]
    assert sum(each.low > 0 for each in found) <= 15  # 7.5 expected at most; more than 15 in one of 200 such tests
    raw = np.mean([each.high for each in found])
    assert np.mean([each.value for each in found]) < raw / 4


@pytest.mark.parametrize("method", METHODS)
def test_intervals_of_distances_hold_the_truth(method: Method) -> None:
    """Of 600 samples of a distribution that has moved, the low end is above the true distance in about 0.5 %."""
    draw = np.random.default_rng(8)
    live = np.array(counted(CONFIDENCE, draw.beta(5, 1.2, 400_000))) / 4e5
    golden = np.array(counted(CONFIDENCE, draw.beta(8, 1.2, 400_000))) / 4e5
    truth = distance(method, (live * 1e12).tolist(), (golden * 1e12).tolist(), CONFIDENCE).value
    found = [
        distance(method, draw.multinomial(300, live).tolist(), draw.multinomial(360, golden).tolist(), CONFIDENCE)
        for _ in range(600)
    ]
    assert sum(each.low > truth for each in found) <= 9
    assert sum(each.high < truth for each in found) <= 15
    assert np.mean([each.low > 0 for each in found]) > 0.2


# ----------------------------------------------------------------------------------------------- estimated accuracy
def _golden(seed: int, m: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give golden counts of two classes whose predictions are right as often as their confidence says."""
    draw = np.random.default_rng(seed)
    seen, right = {}, {}
    for name in ("milk", "bread"):
        values = draw.beta(6, 1.5, m)
        seen[name] = counted(BY_CLASS, values)
        right[name] = counted(BY_CLASS, values[draw.random(m) < values])
    return seen, right


def test_bins_are_smoothed_as_scipys_isotonic_regression_does() -> None:
    """Chances over all classes are the best ones that never fall with confidence."""
    seen, right = _golden(1, 200)
    totals, hits = (np.sum([np.array(rows[name]) for name in rows], axis=0) for rows in (seen, right))
    known = totals > 0
    expected = isotonic_regression(hits[known] / totals[known], weights=totals[known]).x
    found = calibrate(seen, right)
    chances = np.array([found.blocks[index].chance for index in found.block_of])
    assert chances[known] == pytest.approx(expected, abs=5e-3)
    assert list(chances) == sorted(chances)


def test_a_class_with_few_golden_predictions_is_taken_for_the_others() -> None:
    """Its own share counts as much as it has predictions; classes that golden never saw have that of all."""
    seen = {"milk": [0.0] * 19 + [900.0], "bread": [0.0] * 19 + [10.0]}
    right = {"milk": [0.0] * 19 + [900.0], "bread": [0.0] * 20}
    found = calibrate(seen, right)
    everybody = 900 / 910
    assert found.cells["bread"][-1].chance == pytest.approx(PULL * everybody / (10 + PULL), abs=1e-3)
    assert found.cells["milk"][-1].chance == pytest.approx(1.0, abs=1e-3)
    assert found.others[-1].chance == pytest.approx(everybody, abs=1e-3)


def test_golden_itself_is_as_accurate_as_it_was() -> None:
    """Of golden's own predictions the estimate is golden's accuracy."""
    seen, right = _golden(2, 2000)
    accuracy = sum(map(sum, right.values())) / sum(map(sum, seen.values()))
    assert estimated_accuracy(calibrate(seen, right), seen).value == pytest.approx(accuracy, abs=2e-3)


def test_confidences_that_golden_never_had_are_little_known() -> None:
    """Live traffic where golden has nothing gets a wide interval, never a bold number."""
    seen = {"milk": [0.0] * 15 + [60.0] * 5}
    right = {"milk": [0.0] * 15 + [57.0] * 5}
    calibration = calibrate(seen, right)
    usual = estimated_accuracy(calibration, {"milk": [0.0] * 15 + [60.0] * 5})
    strange = estimated_accuracy(calibration, {"milk": [0.0] * 5 + [60.0] * 5 + [0.0] * 10})
    assert usual.high - usual.low < 0.1
    assert strange.high - strange.low > 0.5


@pytest.mark.parametrize(("lean", "live"), [((6, 1.5), (6, 1.5)), ((6, 1.5), (3, 1.5))], ids=["same", "lower"])
def test_estimated_accuracy_holds_the_truth(lean: tuple[float, float], live: tuple[float, float]) -> None:
    """Over 400 pairs of samples, each end misses the true accuracy about as rarely as stated, also when it fell."""
    draw = np.random.default_rng(9)
    truth = float(np.mean(draw.beta(*live, 400_000)))
    found = []
    for _ in range(400):
        values = draw.beta(*lean, 400)
        right = values[draw.random(400) < values]
        calibration = calibrate({"a": counted(BY_CLASS, values)}, {"a": counted(BY_CLASS, right)})
        found.append(estimated_accuracy(calibration, {"a": counted(BY_CLASS, draw.beta(*live, 300))}))
    assert sum(each.low > truth for each in found) <= 6
    assert sum(each.high < truth for each in found) <= 6
    assert np.mean([each.value for each in found]) == pytest.approx(truth, abs=0.02)


@given(FRACTIONS, COUNTS, st.lists(st.floats(0, 1), min_size=BY_CLASS.bins, max_size=BY_CLASS.bins))
def test_estimated_accuracies_are_shares(live: list[float], seen: list[float], rates: list[float]) -> None:
    """Whatever golden and live are, the estimate lies within its interval, and that within 0 and 1."""
    right = [count * rate for count, rate in zip(seen, rates, strict=True)]
    found = estimated_accuracy(calibrate({"a": seen}, {"a": right}), {"a": live, "b": live})
    assert ordered(found)
    assert 0 <= found.low <= found.high <= 1
