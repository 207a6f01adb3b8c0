import pytest
import torch

from thalweg.data.replay import Thresholds, threshold_margin, thresholds


def transcription(h, h0, a, b, mask) -> float:
    """Return the loss as gere_trainer.py writes it, one number at a time."""
    total, count = 0.0, 0
    for r in range(h.shape[0]):
        for t in range(h.shape[1]):
            for d in range(h.shape[2]):
                x, first = float(h[r, t, d]), float(h0[r, t, d])
                low, high = float(a[d]), float(b[d])
                if first <= low:
                    term = max(x - low, 0.0)
                elif first >= high:
                    term = max(high - x, 0.0)
                else:
                    term = max(x - high, 0.0) + max(low - x, 0.0)
                term *= float(mask[r, t])
                total += term
                count += term != 0
    return total / (count + 1e-8)


def test_the_margin_is_the_loop_of_the_authors():
    draw = torch.Generator().manual_seed(0)
    first, now = torch.randn(2, 3, 4, 5, generator=draw)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    bounds = thresholds(first, mask)
    inside = first[mask > 0]
    assert torch.allclose(bounds.low, inside.mean(0) - inside.std(0, correction=0))
    found = threshold_margin(now, first, bounds, mask)
    assert float(found) == pytest.approx(transcription(now, first, *bounds, mask), rel=1e-5)


def test_it_starts_at_exactly_nothing_and_pulls_only_what_has_left():
    draw = torch.Generator().manual_seed(1)
    first = torch.randn(2, 3, 4, generator=draw)
    bounds = thresholds(first)
    now = first.clone().requires_grad_()
    start = threshold_margin(now, first, bounds)
    assert float(start.detach()) == 0.0
    assert not torch.autograd.grad(start, [now])[0].any()
    one = Thresholds(torch.tensor([-1.0]), torch.tensor([1.0]))
    moved = torch.tensor([[[0.5], [2.0], [-3.0]]], requires_grad=True)
    was = torch.tensor([[[0.0], [0.0], [-2.0]]])
    (slope,) = torch.autograd.grad(threshold_margin(moved, was, one), [moved])
    assert slope.flatten().tolist() == [0.0, 1.0, 0.0]


def test_the_mean_over_all_is_additive_over_rows_and_the_other_is_not():
    draw = torch.Generator().manual_seed(2)
    first, now = torch.randn(2, 6, 4, 5, generator=draw)
    bounds = thresholds(first)

    def split(over) -> tuple[float, float]:
        parts = [
            threshold_margin(now[i], first[i], bounds, over=over) for i in ([0, 1], [2, 3, 4, 5])
        ]
        whole = threshold_margin(now, first, bounds, over=over)
        return float(parts[0] * 2 / 6 + parts[1] * 4 / 6), float(whole)

    assert split("all")[0] == pytest.approx(split("all")[1])
    assert split("violations")[0] != pytest.approx(split("violations")[1])
