"""Layers of transformers that compute in float32 whatever their weights are, made to compute in what they are given.

In float64, that would hide differences between one process and several; in float32 nothing changes. A layer changes its
class and nothing else, so that copies of the network, as a moving average of it, are of the same kind.

Letters: B images, Q queries, K keys, D channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.dab_detr import modeling_dab_detr as dab
from transformers.models.deimv2 import modeling_deimv2 as deim


def compute_as_given(network: Any) -> None:
    """Let every such layer of a network compute in the number type of its weights."""
    for module in network.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
        if isinstance(module, dab.DabDetrDecoder):
            module.register_forward_pre_hook(_cast_queries, with_kwargs=True)


class EncoderAttention(dab.DetrAttention):
    """Self-attention of DAB-DETR's encoder."""

    def forward(  # type: ignore[override]  # transformers' own returns two as well
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        object_queries: Tensor | None = None,
        key_value_states: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """(B, K, D) pixels, and their positions -> (B, K, D), without the weights of the attention."""
        placed = hidden_states if object_queries is None else hidden_states + object_queries
        query, key, value = self.q_proj(placed), self.k_proj(placed), self.v_proj(hidden_states)
        dropout = self.attention_dropout if self.training else 0.0
        found = _attend(query, key, value, attention_mask, heads=self.num_heads, dropout=dropout)
        return self.out_proj(found), None


class DecoderAttention(dab.DabDetrAttention):
    """Attention of DAB-DETR's decoder, whose queries, keys and values are projected before."""

    def forward(  # type: ignore[override]  # transformers' own returns two as well
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        key_states: Tensor | None = None,
        value_states: Tensor | None = None,
        output_attentions: bool | None = None,
    ) -> tuple[Tensor, None]:
        """(B, Q, D) queries, (B, K, D) keys, (B, K, E) values -> (B, Q, E), without the weights of the attention."""
        assert key_states is not None
        assert value_states is not None
        dropout = self.attention_dropout if self.training else 0.0
        found = _attend(
            hidden_states, key_states, value_states, attention_mask, heads=self.attention_heads, dropout=dropout
        )
        return self.output_proj(found), None


class RootMeanSquareNorm(deim.Deimv2RMSNorm):
    """DEIMv2's norm."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D), computed in float32 at least."""
        wide = hidden_states if hidden_states.dtype == torch.float64 else hidden_states.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon)
        normed: Tensor = self.weight * (wide * scale).to(hidden_states.dtype)
        return normed


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    dab.DetrAttention: EncoderAttention,
    dab.DabDetrAttention: DecoderAttention,
    deim.Deimv2RMSNorm: RootMeanSquareNorm,
}


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, heads: int, dropout: float) -> Tensor:
    """Scaled dot-product attention of (B, Q, D) queries, (B, K, D) keys and (B, K, E) values -> (B, Q, E)."""
    parts = [states.unflatten(-1, (heads, -1)).transpose(1, 2) for states in (query, key, value)]
    mask = mask.to(query.dtype) if mask is not None and mask.is_floating_point() else mask
    found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask, dropout_p=dropout)
    return found.transpose(1, 2).flatten(2)


def _cast_queries(
    module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """DAB-DETR's first queries are zeros in float32."""
    dtype = next(module.parameters()).dtype
    return positional, {**named, "inputs_embeds": named["inputs_embeds"].to(dtype)}
