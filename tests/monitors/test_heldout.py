"""What the held-out monitor refuses."""

import pytest

from thalweg.data import Corpus
from thalweg.errors import DialError
from thalweg.monitors import HeldOut


@pytest.mark.parametrize("wrong", [{"sources": {}}, {"most": 0}])
def test_nothing_to_measure_is_refused_and_not_a_loss_of_0(wrong):
    text = {"a": Corpus("a.store", length=8)}
    with pytest.raises(DialError, match="sources, most="):
        HeldOut(**{"sources": text, **wrong})
