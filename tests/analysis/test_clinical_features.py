import numpy as np
import pandas as pd
import pytest

from analysis.clinical_features import clinical_matrix, clinical_version
from featurestore.errors import CohortError

FRAME = pd.DataFrame(
    {
        "age": ["70", None, "51.5"],
        "sex": ["female", "male", None],
        "stage": ["I", "II", "I"],
    },
    index=["A", "B", "C"],
    dtype=object,
)


def test_numbers_stay_and_categories_become_columns():
    matrix, columns = clinical_matrix(FRAME)
    assert columns == (
        "age", "age missing", "sex = female", "sex = male", "sex missing", "stage = I",
        "stage = II", "stage missing",
    )  # fmt: skip
    np.testing.assert_array_equal(
        matrix,
        [[70, 0, 1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 1, 0], [51.5, 0, 0, 0, 1, 1, 0, 0]],
    )
    assert matrix.dtype == np.float32


def test_a_number_that_is_none_is_named():
    with pytest.raises(CohortError, match="age of patient B is 'old'"):
        clinical_matrix(FRAME.assign(age=["70", "old", "51"]))


def test_no_variable_is_an_error():
    with pytest.raises(CohortError, match="expected age, sex, stage"):
        clinical_matrix(FRAME[[]])


def test_other_columns_or_another_table_are_another_version():
    one = clinical_version("a" * 64, ("age",))
    assert one == clinical_version("a" * 64, ("age",))
    assert one.sha256 != clinical_version("a" * 64, ("age", "sex = male")).sha256
    assert one.sha256 != clinical_version("b" * 64, ("age",)).sha256
