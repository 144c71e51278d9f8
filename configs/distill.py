r"""Few steps: a student of a video model or of super-resolution, without guidance.

Meng et al., 2023; Salimans & Ho, 2022: see `diffusion/distillation.py`.  `--config.init_from` is
the workdir of the teacher, which may be a student itself.  All parameters are trained.

  python train.py --config=configs/distill.py:demo --workdir=runs/t2v_8 --config.init_from=runs/t2v
  python train.py --config=configs/distill.py:demo_4 --workdir=runs/t2v_4 \
    --config.init_from=runs/t2v_8
  python train.py --config=configs/distill.py:demo_ssr --workdir=runs/ssr_4 \
    --config.init_from=runs/ssr

scale      parameters  trained  hardware     time          result
tiny             719k     360k  2 CPU cores  minutes       for tests
demo            11.1M    5.57M                             8 steps; not run
demo_4          11.1M    5.57M                             4 steps; not run
demo_ssr        9.77M    4.89M  1 CPU core   10 minutes    4 steps; 0.7 dB below its teacher
paper           10.9B    5.45B                             not run
paper_ssr       1.62B     811M                             not run
"""

from ml_collections import ConfigDict

from configs import base, models
from configs.scales import at_scale, merge


def _few(stage: str, steps: int, teacher_steps: int, guidance: float) -> dict:
  """The changes for a student of so many sampling steps, each of which does `teacher_steps`."""
  return {
    'distill': {
      'stage': stage,
      'teacher_steps': teacher_steps,
      'guidance': guidance,
    },
    # Few steps have to be where a clip is decided.  Its content and motion are at a lower log-SNR
    # than the pixels of a frame, for which the spacing `even_angles` is best.
    'sampling': {
      'sampler': 'ddim',
      'steps': steps,
      'guidance': 1.0,
      'spacing': 'even_times' if stage == 't2v' else 'even_angles',
    },
    'drop_text': 0.0,  # the student is sampled without guidance
    'log_snr': {'std': 0.0},
  }


_DEMO = merge(
  models.DEMO_VIDEO,
  {
    'steps': 300,
    'loader': {'batch': 2},
    'optim': {'learning_rate': 1e-3, 'warmup': 30},
    'ema_decay': 0.98,
  },
)

SCALES = {
  'tiny': merge(
    models.TINY,
    _few('t2v', 4, 2, 2.0),
    {
      'data': {'size': 16, 'frames': 16},
      'loader': {'batch': 4},
    },
  ),
  'demo': merge(_DEMO, _few('t2v', 8, 2, 2.0)),
  'demo_4': merge(_DEMO, _few('t2v', 4, 2, 1.0)),
  'demo_ssr': merge(
    models.DEMO_SSR,
    _few('ssr', 4, 2, 1.0),
    {
      'steps': 400,
      'loader': {'batch': 4},
      'optim': {'learning_rate': 5e-4},
      'ema_decay': 0.99,
    },
  ),
  'paper': merge(
    models.PAPER,
    _few('t2v', 8, 4, 6.0),
    {
      'steps': 20_000,
      'optim': {'warmup': 1000},
      'loader': {'batch': 128},
    },
  ),
  'paper_ssr': merge(
    models.PAPER_SSR,
    _few('ssr', 4, 4, 4.0),
    {
      'steps': 20_000,
      'optim': {'warmup': 1000},
    },
  ),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/distill.py:demo`."""
  c = base.get_config()
  if scale.endswith('ssr'):
    c = base.super_resolution(c)
  c.stage = 'distill'
  c.model.temporal = True
  c.trainable = base.ALL_BUT_TEACHER
  c.distill.update(
    {
      'stage': 't2v',  # of the teacher
      'teacher_steps': 4,  # for each of the student, of which there are `sampling.steps`
      'guidance': 3.0,  # the scale of guidance of the teacher
    }
  )
  return at_scale(c, scale, SCALES)
