from __future__ import annotations

import io
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.compare import compare_encoders
from analysis.figure_style import png
from analysis.figures import comparison_figure, confusion_figure, training_figure
from analysis.metrics import confusion_counts
from analysis.tissue import TissueCohort, TissueSettings, evaluate_tissue
from featurestore.errors import CohortError

CLASSES = ("ADI", "LYM", "TUM")


def compared(result):
    return compare_encoders(
        result.scores,
        n_folds=result.settings.n_folds,
        n_repeats=result.settings.n_repeats,
        leakage_checked=result.leakage_checked,
        leakage_note=result.leakage_note,
    )


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    signal = rng.normal(size=(3, 5))[labels]
    features = {
        f"encoder-{noise}": (signal + noise * rng.normal(size=(90, 5))).astype(np.float32)
        for noise in (3, 1, 2)
    }
    cohort = TissueCohort(np.arange(90), labels, CLASSES, None, features)
    return evaluate_tissue(cohort, TissueSettings(n_folds=3, n_repeats=4, seed=0))


@pytest.fixture(scope="module")
def comparisons(result):
    return compared(result)


def texts(figure):
    """Every text of a figure, wrapped lines joined."""
    from matplotlib.text import Text

    found = [text.get_text() for text in figure.findobj(Text)]
    return " | ".join(text.replace("\n", " ") for text in found if text)


def test_the_comparison_shows_the_first_pair_and_says_what_its_bars_are(result, comparisons):
    figure = comparison_figure(result.scores, comparisons)
    shown = texts(figure)
    assert "encoder-1 minus encoder-3" in shown
    assert "bars the middle 95 % of them" in shown
    assert "95 % confidence intervals of the corrected resampled t-test" in shown
    assert "Not checked for leakage: no tile carries a patient" in shown
    # A naive p is never without the corrected one.
    assert shown.index("corrected p = ") < shown.index("naive p = ")
    mean = result.scores.query("encoder == 'encoder-1' and metric == 'accuracy'")["value"].mean()
    assert f"{100 * mean:.1f} %" in shown


def test_the_comparison_draws_the_intervals_of_the_table(result, comparisons):
    _, right = comparison_figure(
        result.scores, comparisons, encoder_a="encoder-3", encoder_b="encoder-2"
    ).axes
    pair = comparisons.query("encoder_a == 'encoder-3' and encoder_b == 'encoder-2'")
    expected = pair.query("metric in ('accuracy', 'recall')")[["ci_low", "ci_high"]] * 100
    drawn = [bar.get_segments()[0][:, 0] for bar in right.collections]
    assert np.allclose(drawn, expected.to_numpy())
    labels = [tick.get_text() for tick in right.get_yticklabels()]
    assert labels == ["accuracy", "ADI recall", "LYM recall", "TUM recall"]


def test_a_pair_that_was_not_compared_is_refused(result, comparisons):
    with pytest.raises(CohortError, match="no comparison of encoder-2 with encoder-3"):
        comparison_figure(result.scores, comparisons, encoder_a="encoder-2", encoder_b="encoder-3")
    with pytest.raises(CohortError, match="needs two encoders"):
        comparison_figure(result.scores, comparisons.iloc[:0])


def test_confusion_matrices_show_shares_of_the_true_class(result):
    counts = {
        encoder: confusion_counts(result.cohort.labels, found.predicted, 3)
        for encoder, found in result.predictions.items()
    }
    figure = confusion_figure(counts, CLASSES)
    assert [panel.get_title() for panel in figure.axes] == list(counts)
    for panel, matrix in zip(figure.axes, counts.values(), strict=True):
        (image,) = panel.images
        assert np.allclose(image.get_array(), 100 * matrix / matrix.sum(axis=1, keepdims=True))


def test_a_share_is_never_rounded_to_none_or_all():
    counts = {"e": np.array([[999, 1], [0, 1000]])}
    (panel,) = confusion_figure(counts, ("ADI", "TUM")).axes
    assert [text.get_text() for text in panel.texts] == [">99", "<1", "100"]


def test_training_runs_through_both_steps_in_order():
    epochs = pd.DataFrame(
        {
            "step": [2, 2, 1],
            "epoch": [2, 1, 1],
            "train_loss": [0.2, 0.4, 0.9],
            "train_accuracy": [0.9, 0.8, 0.6],
            "validation_loss": [0.3, 0.5, 0.8],
            "validation_accuracy": [0.88, 0.8, 0.65],
        }
    )
    figure = training_figure(epochs)
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [0.9, 0.4, 0.2]
    assert accuracy.lines[1].get_ydata().tolist() == [65, 80, 88]
    boundary = loss.lines[2].get_xdata()
    assert list(boundary) == [1.5, 1.5]
    assert "step 1 head" in texts(figure)
    assert "step 2 unfrozen part" in texts(figure)


def test_a_png_is_an_image_and_the_same_bytes_each_time(result, comparisons):
    first = png(comparison_figure(result.scores, comparisons))
    assert png(comparison_figure(result.scores, comparisons)) == first
    width, height = Image.open(io.BytesIO(first)).size
    assert width == 1600
    assert height > 400


def test_nothing_is_cut_off_at_the_edge(result, comparisons):
    figure = comparison_figure(result.scores, comparisons)
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert edge.min() == 255


def test_figures_leave_pyplot_alone(result, comparisons):
    comparison_figure(result.scores, comparisons)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_the_answer_is_the_same_in_whatever_order_the_rows_come(result, comparisons):
    figure = comparison_figure(result.scores, comparisons)
    pair = comparisons.iloc[0][["encoder_a", "encoder_b"]]
    shuffled = comparisons.sample(frac=1, random_state=1)
    other = comparison_figure(
        result.scores, shuffled, encoder_a=pair["encoder_a"], encoder_b=pair["encoder_b"]
    )
    assert png(figure) == png(other)
    overall = comparisons.query("target == 'all' and metric == 'accuracy'").iloc[0]
    assert f"Accuracy {100 * overall['difference']:+.2f} points" in texts(figure)
