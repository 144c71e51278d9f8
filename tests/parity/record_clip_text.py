"""Records what transformers makes of tiny text towers of CLIP, of weights that both sides can draw.

python -m tests.parity.record_clip_text

Writes tests/text/recorded/: the names and shapes of the weights, and the states of drawn tokens.
"""

import pathlib

import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from tests.evaluation.features import drawn
from tests.parity.record_features import filled, shapes

OUT = pathlib.Path(__file__).resolve().parents[1] / 'text' / 'recorded'
TINY = {'hidden_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 3}
TINY |= {'intermediate_size': 96, 'vocab_size': 50}


def states(model, ids: np.ndarray) -> np.ndarray:
  """The states of tokens after the last layer and its norm, without a mask."""
  with torch.no_grad():
    return model(torch.from_numpy(ids).long()).last_hidden_state.numpy()


def main() -> None:
  for activation in ('quick_gelu', 'gelu'):
    model = filled(CLIPTextModel(CLIPTextConfig(**TINY, hidden_act=activation)))
    answer = states(model, drawn.tokens(50))
    drawn.record(OUT / f'clip_{activation}.npz', shapes(model), answer)


if __name__ == '__main__':
  main()
