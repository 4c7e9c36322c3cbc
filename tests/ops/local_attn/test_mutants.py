"""The judge of the sweep catches every mistake that public implementations made, and some that ours could.

A mutant is the unfolding implementation with one step changed; it has to fail in one of the first hundred
cases of the sweep. In brackets who made the mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import Case, judge
from .plain import Unfolded

CASES = [Case.draw(seed) for seed in range(100)]


class NoSumOverChannels(Unfolded):
    """Every channel has its own softmax (leaderj1001, issue 10)."""

    def content(self, query: Tensor, keys: Tensor) -> Tensor:
        return query.unsqueeze(3) * keys

    def position(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        return super().position(query, row, col).unsqueeze(2)

    def weighted(self, weights: Tensor, values: Tensor) -> Tensor:
        channels = torch.arange(values.shape[2]) % weights.shape[2]
        return (weights[:, :, channels] * values).sum(3).flatten(1, 2)


class HeadsCollapsed(Unfolded):
    """Scores summed over the heads, so that all share one map (MerHS)."""

    def scaled(self, logits: Tensor) -> Tensor:
        return super().scaled(logits.sum(1, keepdim=True).expand_as(logits))


class RowsInHalfOfTheHeads(Unfolded):
    """The first heads see rows only, the others columns only (skmhrk1209)."""

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        r = super().relative(query, row, col)
        rows, cols = r.chunk(2, -1)
        first = torch.arange(self.heads)[:, None, None] < self.heads / 2
        return torch.cat([rows * first, cols * ~first], -1)


class PaddingInTheSoftmax(Unfolded):
    """Keys of zero outside the map take their share (leaderj1001, MerHS, timm's halo)."""

    def softmax(self, logits: Tensor) -> Tensor:
        return logits.softmax(2)


class InvertedMask(Unfolded):
    """What lies inside the map is masked (halonet-pytorch, issue 4)."""

    def softmax(self, logits: Tensor) -> Tensor:
        return logits.masked_fill(self.inside(logits), torch.finfo(logits.dtype).min).softmax(2)


class UnfoldedWithoutPermute(Unfolded):
    """K before D in the shape, but not in memory (attention-cnn, MartinGer)."""

    def unfold(self, x: Tensor) -> Tensor:
        right = super().unfold(x)
        batch, heads, width, places, pixels = right.shape
        return right.reshape(batch, heads, places, width, pixels).transpose(2, 3)


class RelativeTermOnTheValues(Unfolded):
    """r is added to v instead of to k (tykimos)."""

    def position(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        self.r = self.relative(query, row, col)  # (N, K, D)
        return 0 * super().position(query, row, col)

    def weighted(self, weights: Tensor, values: Tensor) -> Tensor:
        if hasattr(self, "r"):
            channels = torch.arange(values.shape[2]) % self.r.shape[2]
            values = values + self.r[..., channels].mT.unsqueeze(-1)
        return super().weighted(weights, values)


class RelativeTermWithoutTheQuery(Unfolded):
    """A bias that is the same for all queries: content-independent."""

    def position(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        return 0 * query[:, :, :1] + self.relative(query, row, col).sum(-1)[None, :, :, None]


class QueryAndEmbeddingSummedApart(Unfolded):
    """(Σ q)(Σ r) instead of Σ q·r (MartinGer)."""

    def position(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        r = self.relative(query, row, col).sum(-1)
        return query.sum(2, keepdim=True) * r[None, :, :, None]


class HeightAndWidthSwapped(Unfolded):
    """Row embeddings go along the columns (self-attention-cv)."""

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        kh, kw = self.kernel
        right = super().relative(query, row, col).unflatten(1, (kh, kw))
        a = torch.arange(kw).clamp(max=kh - 1)  # the row of a column offset, as far as there is one
        b = torch.arange(kh).clamp(max=kw - 1)
        return right[:, a[None, :], b[:, None]].flatten(1, 2)


class HalvesSwapped(Unfolded):
    """Columns in the first half of the channels."""

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        return torch.cat(super().relative(query, row, col).chunk(2, -1)[::-1], -1)


class OffsetsReversed(Unfolded):
    """Embeddings in the order of query minus key."""

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        return super().relative(query, row, col).flip(1)


class OneHeadsEmbeddingsForAll(Unfolded):
    """The first head's."""

    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        r = super().relative(query, row, col)
        return r[:1].expand_as(r)


class NoRowEmbeddings(Unfolded):
    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        return super().relative(query, None, col)


class ContentIgnored(Unfolded):
    def content(self, query: Tensor, keys: Tensor) -> Tensor:
        return 0 * super().content(query, keys)


class ScaleOnContentOnly(Unfolded):
    """As where the query is scaled after q·r was taken."""

    def content(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.scale * super().content(query, keys)

    def scaled(self, logits: Tensor) -> Tensor:
        return logits


class ScaleIgnored(Unfolded):
    def scaled(self, logits: Tensor) -> Tensor:
        return logits


class ScaleZeroMeansDefault(Unfolded):
    """`scale or 1.0`."""

    def scaled(self, logits: Tensor) -> Tensor:
        return (self.scale or 1.0) * logits


class ScaledByTheWidth(Unfolded):
    """A factor 1/√D that the equations do not have."""

    def content(self, query: Tensor, keys: Tensor) -> Tensor:
        return super().content(query, keys) / math.sqrt(query.shape[2])


class DilationOfOneAxisForBoth(Unfolded):
    def unfold(self, x: Tensor) -> Tensor:
        self.dilation = (self.dilation[0], self.dilation[0])
        return super().unfold(x)


class DilationIgnored(Unfolded):
    def split(self, x: Tensor) -> Tensor:
        self.dilation = (1, 1)
        return super().split(x)


class MaskWithoutDilation(Unfolded):
    def inside(self, like: Tensor) -> Tensor:
        dilation, self.dilation = self.dilation, (1, 1)
        inside = super().inside(like)
        self.dilation = dilation
        return inside


class WindowShiftedIntoTheMap(Unfolded):
    """Replicated borders stand in for positions outside (in NATTEN's spirit)."""

    def unfold(self, x: Tensor) -> Tensor:
        (rh, rw), kernel, dilation = self.reach(), self.kernel, self.dilation
        padded = F.pad(x, (rw, rw, rh, rh), mode="replicate") if len(x) else x
        columns = F.unfold(padded, kernel, dilation, (0, 0) if len(x) else (rh, rw))
        return columns.unflatten(1, (self.heads, -1, kernel[0] * kernel[1]))

    def inside(self, like: Tensor) -> Tensor:
        return torch.ones_like(super().inside(like))


class HeadsInterleaved(Unfolded):
    """Channel c belongs to head c modulo N."""

    def split(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (-1, self.heads)).transpose(1, 2)

    def unfold(self, x: Tensor) -> Tensor:
        return super().unfold(x.unflatten(1, (-1, self.heads)).transpose(1, 2).flatten(1, 2))


class FloorPool(Unfolded):
    """Drops the odd row or column, or counts it out of what it has."""

    def pooled(self, out: Tensor) -> Tensor:
        even = F.pad(out, (0, out.shape[-1] % 2, 0, out.shape[-2] % 2))
        return F.avg_pool2d(even, 2)


class MaximumPool(Unfolded):
    def pooled(self, out: Tensor) -> Tensor:
        return F.max_pool2d(out, 2, ceil_mode=True)


class StridedInsteadOfPooled(Unfolded):
    """Every second query, as a strided convolution (liqi17thu)."""

    def pooled(self, out: Tensor) -> Tensor:
        return out[..., ::2, ::2]


class ReluIgnored(Unfolded):
    def rectified(self, out: Tensor) -> Tensor:
        return out


class ReluBeforeThePool(Unfolded):
    def pooled(self, out: Tensor) -> Tensor:
        return super().pooled(out.relu())


class ReluOfTheValues(Unfolded):
    """max(0, v) weighted instead of max(0, ·) of the weighted."""

    def weighted(self, weights: Tensor, values: Tensor) -> Tensor:
        return super().weighted(weights, values.relu())


class AbsoluteForRelu(Unfolded):
    def rectified(self, out: Tensor) -> Tensor:
        return out.abs()


class HalfPrecisionArithmetic(Unfolded):
    """Sums in the dtype of the inputs."""

    def precision(self, q: Tensor) -> torch.dtype:
        return q.dtype


class Float32ForFloat64(Unfolded):
    def precision(self, q: Tensor) -> torch.dtype:
        return torch.float32


class WeightsWithoutGradient(Unfolded):
    """Right outputs, wrong gradients."""

    def softmax(self, logits: Tensor) -> Tensor:
        return super().softmax(logits.detach() + 0 * logits)


class GradientOfTheScaleForgotten(Unfolded):
    def scaled(self, logits: Tensor) -> Tensor:
        return logits + ((self.scale - 1) * logits).detach()


class RowEmbeddingsWithoutGradient(Unfolded):
    def relative(self, query: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
        row = None if row is None else row.detach() + 0 * row
        return super().relative(query, row, col)


class SoftmaxGradientWithoutTheMean(Unfolded):
    """dlogit = w · dw, without − w · Σ w dw."""

    def softmax(self, logits: Tensor) -> Tensor:
        shifted = logits.masked_fill(~self.inside(logits), -torch.inf)
        exponentials = (shifted - shifted.detach().amax(2, keepdim=True)).exp()
        return exponentials / exponentials.sum(2, keepdim=True).detach()


class ReluWithoutItsGradient(Unfolded):
    """The gradient passes where the output is zero, as if straight through."""

    def rectified(self, out: Tensor) -> Tensor:
        return out + (out.relu() - out).detach()


GRADIENT_MUTANTS = (
    WeightsWithoutGradient,
    GradientOfTheScaleForgotten,
    RowEmbeddingsWithoutGradient,
    SoftmaxGradientWithoutTheMean,
    ReluWithoutItsGradient,
)
MUTANTS = [mutant for mutant in Unfolded.__subclasses__() if mutant not in GRADIENT_MUTANTS]


def wrong(
    mutant: type[Unfolded], cases: list[Case], *, gradients: bool = False
) -> Iterator[tuple[Case, list[str]]]:
    """The cases that the judge rejects, with the results that it rejects."""
    for case in cases:
        errors = judge(mutant(), case, gradients=gradients)
        rejected = [name for name, error in errors.items() if not error <= 1]
        if rejected:
            yield case, rejected


def test_the_unmutated_passes() -> None:
    """So what a mutant is caught for is its mistake."""
    assert list(wrong(Unfolded, CASES, gradients=True)) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_wrong_outputs_are_caught(mutant: type[Unfolded]) -> None:
    assert next(wrong(mutant, CASES), None), f"{mutant.__name__} survived {len(CASES)} cases"


@pytest.mark.parametrize("mutant", GRADIENT_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_wrong_gradients_are_caught(mutant: type[Unfolded]) -> None:
    """Although the outputs are right."""
    assert list(wrong(mutant, CASES[:30])) == []
    caught = next(wrong(mutant, CASES, gradients=True), None)
    assert caught, f"{mutant.__name__} survived {len(CASES)} cases"
