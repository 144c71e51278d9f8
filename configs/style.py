"""A style from one image: low-rank adapters of the image model's weights (StyleDrop's way).

  python train.py --config=configs/style.py:demo --workdir=runs/neon \
    --config.init_from=checkpoints/demo/t2i --config.style.image=FILE \
    --config.style.descriptor='in neon style'

Lumiere, Sec. 4.1; Sohn et al., 2023.  All weights are trained by
`--config.style.rank=0 --config.trainable="('.*',)"` instead.
"""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/style.py:demo`."""
  c = base.get_config()
  c.stage = 'style'
  c.model.temporal = False
  c.style.update({'image': '', 'content': '', 'descriptor': '', 'rank': 8})
  c.trainable = (r'(.*/)?adapter/.*',)
  c.drop_text = 0.0
  c.data.update({'frames': 1})
  return scales.apply(c, scale)
