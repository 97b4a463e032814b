"""A translation Transformer trained with our fused softmax and LayerNorm kernels, against torch's and a naive composition."""
