import pytest

from thalweg.errors import RecipeError
from thalweg.models.sizes import SIZES, size
from thalweg.models.transformer import Decoder

UNIT = {"k": 1e3, "m": 1e6, "b": 1e9}


@pytest.mark.parametrize("name", list(SIZES))
def test_a_name_is_within_15_percent_of_the_parameters(name: str) -> None:
    module = Decoder(size(name, SIZES[name].vocabulary, 64))  # on the meta device: no memory
    count = sum(parameter.numel() for parameter in module.parameters())
    assert count == pytest.approx(float(name[:-1]) * UNIT[name[-1]], rel=0.15)


@pytest.mark.parametrize("name", list(SIZES))
def test_heads_are_64_wide_where_two_of_them_fit(name: str) -> None:
    spec = size(name, 100, 64)
    assert spec.shape.head_width == (64 if spec.width >= 128 else 32)


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(RecipeError, match="did you mean '125m'"):
        size("124m", 100, 64)


def test_a_size_that_is_no_name_is_refused_with_the_order_of_the_arguments() -> None:
    with pytest.raises(RecipeError, match=r"size\(\"250k\", 512, 64\)"):
        size(64, "250k", 16)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="vocabulary: a whole number"):
        size("250k", "64", 16)  # type: ignore[arg-type]
