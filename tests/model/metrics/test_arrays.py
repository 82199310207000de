import numpy as np
import pytest

from model.metrics import ranking
from model.metrics.arrays import average_precision, roc_auc

SCORES = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.3], [0.1, 0.3, 0.2]])
LABELS = np.array([[1, 0, 0], [0, 1, 0], [1, -1, 0]])


def test_each_class_is_rated_alone_and_one_without_positives_is_undefined():
    expected = [
        ranking.average_precision(ranking.trace_curve(ranking.rank(SCORES[:, k], LABELS[:, k]))) for k in (0, 1)
    ]
    np.testing.assert_array_equal(average_precision(SCORES, LABELS), [*expected, np.nan])
    np.testing.assert_array_equal(roc_auc(SCORES, LABELS), [0.5, 1.0, np.nan])
    assert average_precision(SCORES[:, :0], LABELS[:, :0]).shape == (0,)


@pytest.mark.parametrize(("scores", "labels"), [(SCORES[:, :2], LABELS), (SCORES[:, 0], LABELS[:, 0])])
def test_arrays_of_other_shapes_are_refused(scores, labels):
    with pytest.raises(ValueError, match=r"scores and labels must be of one shape \(scans, classes\), got"):
        average_precision(scores, labels)
