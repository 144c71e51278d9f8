"""Random weights and videos that are the same for two libraries, and published names of weights.

Nothing here imports the code under test.
"""

import re
import zlib

import numpy as np


def normal(name, shape):
  """Random numbers of mean 0 and variance 1, which depend on the name alone."""
  return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Random weights of a network of torch.  No norm, bias or statistic has its initial value."""
  drawn = {}
  for name, shape in shapes.items():
    x, kind = normal(name, shape), name.rpartition('.')[2]
    if len(shape) > 1:
      x *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
    elif kind == 'running_var':
      x = np.exp(0.3 * x)
    else:
      x = 0.2 * x + (kind == 'weight')
    drawn[name] = np.asarray(x, np.float32)
  return drawn


def recorded(path) -> tuple[dict, np.ndarray]:
  """The shapes of a network's weights by name, and its recorded output."""
  with np.load(path) as file:
    shapes = {n: tuple(s[s > 0].tolist()) for n, s in zip(file['names'].tolist(), file['shapes'])}
    return shapes, file['answer']


def record(path, shapes: dict, answer: np.ndarray) -> None:
  """Writes what `recorded` reads."""
  most = max(map(len, shapes.values()))
  table = np.array([[*s, *[0] * (most - len(s))] for s in shapes.values()], np.int32)
  np.savez_compressed(path, names=np.array(list(shapes)), shapes=table, answer=answer)


def as_hassony2(named: dict) -> dict:
  """The weights of an I3D, renamed from pytorch-i3d to kinetics_i3d_pytorch of hassony2."""
  branches = {
    'b0': 'branch_0', 'b1a': 'branch_1.0', 'b1b': 'branch_1.1',
    'b2a': 'branch_2.0', 'b2b': 'branch_2.1', 'b3b': 'branch_3.1',
  }  # fmt: skip
  made = {}
  for name, x in named.items():
    unit, *rest = name.split('.')
    unit = 'conv3d_0c_1x1' if unit == 'logits' else unit[0].lower() + unit[1:]
    rest = ['batch3d' if part == 'bn' else branches.get(part, part) for part in rest]
    made['.'.join([unit, *rest])] = x
  return made


def as_deepmind(named: dict) -> dict:
  """The same in the names and layouts of DeepMind's kinetics-i3d, which has no scale."""
  branches = {
    'b0': 'Branch_0/Conv3d_0a_1x1', 'b1a': 'Branch_1/Conv3d_0a_1x1',
    'b1b': 'Branch_1/Conv3d_0b_3x3', 'b2a': 'Branch_2/Conv3d_0a_1x1',
    'b2b': 'Branch_2/Conv3d_0b_3x3', 'b3b': 'Branch_3/Conv3d_0b_1x1',
  }  # fmt: skip
  kinds = {'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
  made = {}
  for name, x in named.items():
    *where, layer, kind = name.split('.')
    if (layer, kind) == ('bn', 'weight'):
      continue
    where = '/'.join(branches.get(part, part) for part in where)
    where = where.replace('logits', 'Logits/Conv3d_0c_1x1')
    if where == 'Mixed_5b/Branch_2/Conv3d_0b_3x3':
      where = 'Mixed_5b/Branch_2/Conv3d_0a_3x3'  # as in its definition
    if layer == 'bn':
      leaf, x = f'batch_norm/{kinds[kind]}', x.reshape(1, 1, 1, 1, -1)
    elif kind == 'weight':
      leaf, x = 'conv_3d/w', x.transpose(2, 3, 4, 1, 0)
    else:
      leaf = 'conv_3d/b'
    made[f'RGB/inception_i3d/{where}/{leaf}'] = np.ascontiguousarray(x)
  return made


def as_chainer(named: dict) -> dict:
  """The weights of a C3D, renamed from torch to the chainer network of TGAN."""
  made = {}
  for name, x in named.items():
    layer, kind = name.split('.')
    layer = re.sub(r'^(conv[12])$', r'\1a', layer)
    made[f'{layer}/{"W" if kind == "weight" else "b"}'] = x
  return made


def as_openai(named: dict) -> dict:
  """The weights of a CLIP, renamed from transformers to OpenAI, with transposed projections."""
  tops = {
    'logit_scale': 'logit_scale',
    'visual_projection.weight': 'visual.proj',
    'text_projection.weight': 'text_projection',
    'vision_model.embeddings.class_embedding': 'visual.class_embedding',
    'vision_model.embeddings.patch_embedding.weight': 'visual.conv1.weight',
    'vision_model.embeddings.position_embedding.weight': 'visual.positional_embedding',
    'text_model.embeddings.token_embedding.weight': 'token_embedding.weight',
    'text_model.embeddings.position_embedding.weight': 'positional_embedding',
  }
  for kind in ('weight', 'bias'):
    tops[f'vision_model.pre_layrnorm.{kind}'] = f'visual.ln_pre.{kind}'
    tops[f'vision_model.post_layernorm.{kind}'] = f'visual.ln_post.{kind}'
    tops[f'text_model.final_layer_norm.{kind}'] = f'ln_final.{kind}'
  made = {new: named[old] for old, new in tops.items()}
  for name in ('visual.proj', 'text_projection'):
    made[name] = np.ascontiguousarray(made[name].T)
  parts = {
    'layer_norm1': 'ln_1', 'layer_norm2': 'ln_2', 'self_attn.out_proj': 'attn.out_proj',
    'mlp.fc1': 'mlp.c_fc', 'mlp.fc2': 'mlp.c_proj',
  }  # fmt: skip
  for tower, ours in (('vision_model', 'visual.transformer'), ('text_model', 'transformer')):
    i = 0
    while f'{tower}.encoder.layers.{i}.layer_norm1.bias' in named:
      old, new = f'{tower}.encoder.layers.{i}', f'{ours}.resblocks.{i}'
      for kind in ('weight', 'bias'):
        for a, b in parts.items():
          made[f'{new}.{b}.{kind}'] = named[f'{old}.{a}.{kind}']
        three = [named[f'{old}.self_attn.{part}_proj.{kind}'] for part in 'qkv']
        made[f'{new}.attn.in_proj_{kind}'] = np.concatenate(three)
      i += 1
  return made


def tokens(vocabulary: int) -> np.ndarray:
  """Texts of three lengths, padded with their end, which is the greatest token."""
  ids = np.random.default_rng(0).integers(0, vocabulary - 1, (3, 77), dtype=np.int32)
  for row, n in zip(ids, (1, 30, 76)):
    row[n:] = vocabulary - 1
  return ids
