"""The metrics by hand, and pooled against averaged."""

import numpy as np
import pytest

from depthfield import picture, published, scoring

NAN = np.nan


def test_metrics_by_hand():
    truth, predicted = np.array([[1.0, 2.0], [4.0, NAN]]), np.array([[1.5, 2.0], [2.0, 9.0]])
    scores = scoring.summary([scoring.tally(predicted, truth)])["pooled over pixels"]
    assert scores["rel"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert scores["log10"] == pytest.approx((np.log10(1.5) + np.log10(2)) / 3)
    assert scores["rms"] == pytest.approx(np.sqrt((0.25 + 4) / 3))
    assert [scores[f"delta{k}"] for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_pooled_weighs_pixels_and_the_mean_weighs_images():
    large = scoring.tally(np.full((10, 10), 1.1), np.ones((10, 10)))
    small = scoring.tally(np.full((1, 1), 2.0), np.ones((1, 1)))
    summary = scoring.summary([large, small])
    assert summary["pooled over pixels"]["rel"] == pytest.approx((100 * 0.1 + 1) / 101)
    assert summary["mean of images"]["rel"] == pytest.approx((0.1 + 1) / 2)
    assert summary["images"] == 2 and summary["pixels"] == 101


@pytest.mark.parametrize(("factor", "told"), [(1000, "1e+03"), (0.05, "0.05"), (9, None), (0.2, None)])
def test_a_wrong_unit_shows_by_the_ratio_of_predicted_to_measured_depth(factor, told):
    truth = np.array([[1.0, 2.0, NAN]])
    found = scoring.doubt([scoring.tally(truth * factor, truth), scoring.tally(truth * NAN, truth)])
    assert found == (told and f"predicted depth is {told} times the measured, in the median: is a scale wrong?")


def test_what_has_no_prediction_is_reported_as_coverage_and_not_scored():
    summary = scoring.summary([scoring.tally(np.array([1.0, NAN, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, NAN]))])
    assert summary["coverage"] == pytest.approx(1 / 3) and summary["pooled over pixels"]["rel"] == 0
    with pytest.raises(ValueError, match="no pixel"):
        scoring.summary([scoring.tally(np.array([NAN]), np.array([1.0]))])


def test_a_ratio_of_exactly_a_threshold_is_not_within_it_however_float32_rounds_it():
    truth = np.arange(64, 20000, 64)  # millimetres
    for power in (1, 2, 3):
        tie = truth * 5**power // 4**power
        for units, share in ((tie, 0), (tie - 1, 1), (tie + 1, 0)):
            predicted, measured = (np.array(depth * 0.001, np.float32) for depth in (units, truth))
            for pair in ((predicted, measured), (measured, predicted)):
                assert scoring.tally(*pair).sums[2 + power] == share * len(truth)


def test_the_table_tells_how_much_was_scored_and_never_rounds_it_up_to_all():
    predicted = np.ones(300_000)
    for holes, line in ((0, "100.0% of the measured pixels, 300000"), (1, "99.9% of the measured pixels, 299999")):
        predicted[:holes] = [NAN, np.inf][:holes]
        summary = scoring.summary([scoring.tally(predicted, np.ones(300_000))])
        assert f"\nit, scored: {line} of 300000" in scoring.table({"it": summary})


def test_a_run_without_the_field_is_called_unary():
    summary = scoring.summary([scoring.tally(np.ones(4), np.ones(4))])
    table = scoring.table({"field": summary | {"loss": "unary"}, "mean depth": summary})
    assert "\nunary, pooled over pixels" in table and "field" not in table
    assert "\nfield, mean of images" in scoring.table({"field": summary | {"loss": "answer"}})
    stated = {"images": 1, "official images": 654, "pixels": 4, "dataset": "raw"}
    trained = {"loss": "unary", "steps": 8, "training photos": 2, "weights from": None}
    table = published.table("nyu", {"field": summary | stated | trained}, beside=False)
    assert "\nnyu, unary, pooled over pixels *" in table and "\nunary: 8 steps" in table


def test_pictures_are_black_where_nothing_was_measured_and_light_where_near():
    coloured = picture.coloured(np.array([[1.0, 5.0, NAN]]), 1, 5)
    assert coloured[0].tolist() == [list(picture.DEPTHS[0]), list(picture.DEPTHS[-1]), [0, 0, 0]]
