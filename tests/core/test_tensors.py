"""Tensors on disk: one memory under two names is written once and comes back to both."""

import torch

from thalweg.core.world import World


def test_a_tensor_with_two_names_is_written_once_and_filled_for_both(tmp_path):
    one, other, empty = torch.arange(6.0).view(2, 3), torch.ones(2, 3), torch.zeros(0)
    World().save_tensors({"a": one, "b": one.detach(), "c": other, "d": empty}, tmp_path / "t")
    back = torch.zeros(2, 3)
    found = {"a": back, "b": back.detach(), "c": torch.zeros(2, 3), "d": torch.zeros(0)}
    World().load_tensors(found, tmp_path / "t")
    assert found["b"].equal(one)
    assert found["c"].equal(other)
