"""The first weights of a network: each layer's own rule (its initialisers), or PyTorch's for all layers alike."""
import math
from typing import Any

import jax


def drawn_as_pytorch(params: dict[str, Any], key: jax.Array) -> dict[str, Any]:
  """The tree with every dense layer and convolution drawn as PyTorch draws its `nn.Linear` and `nn.Conv` (released program).

  Kernel and bias are uniform in ± 1/√n, where n inputs meet in an output; Flax has Gaussian kernels of std 1/√n and biases of 0.
  What has no kernel (norms, the depth's correction) stays.

  Args:
    params: nested dicts; a layer is a dict with a 'kernel' [..., inputs, outputs] and perhaps a 'bias' [outputs].
    key: of the draw; a layer's weights follow from it and from the layer's place in the tree.
  """
  keys = jax.random.split(key, len(params))
  if 'kernel' not in params:
    return {name: drawn_as_pytorch(value, each) if isinstance(value, dict) else value
            for each, (name, value) in zip(keys, sorted(params.items()), strict=True)}
  bound = 1 / math.sqrt(math.prod(params['kernel'].shape[:-1]))
  return {name: jax.random.uniform(each, value.shape, value.dtype, -bound, bound)
          for each, (name, value) in zip(keys, sorted(params.items()), strict=True)}
