"""Attention inside the squares of an image of few channels (Ramachandran et al., 2019, App. A.1)."""

from sasa.ops.square_attention.api import square_attention, square_attention_statistics

__all__ = ["square_attention", "square_attention_statistics"]
