"""What every stage has.  A stage says what trains from what; `scales.py` has the sizes.

The keys under `model`, `schedule`, `text`, `data`, `degrade`, `loader`, `optim`, `sampling` and
`scores` are the keyword arguments of one function each, so a misspelt one is an error before
anything is compiled.  `training/ranges.py` says which numbers are allowed.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The defaults."""
  c = ConfigDict()
  c.stage = ''
  c.init_from = ''  # workdir of the model to start from
  c.trainable = ('.*',)  # names of the parameters to train: regular expressions of the whole name
  c.seed = 0
  c.steps = 1000
  c.mesh = (('data', -1), ('fsdp', 1))  # core.sharding.make_mesh; axes data, fsdp, time
  c.shard_above = 2**18  # parameters with fewer numbers than this are on every device

  c.model = ConfigDict(  # stunet.unet.STUNet
    {'dtype': 'float32', 'remat': False}
  )
  c.schedule = ConfigDict(  # diffusion.process.Process
    {'schedule': 'cosine', 'shift': 0.0, 'prediction': 'v'}
  )
  c.text = ConfigDict(  # text.encoder.open_encoder
    {
      'source': 'hashed',
      'tokens': 16,
      'width': 64,
      'dtype': 'float32',
      'cache': '',
      'mask_padding': False,
    }
  )
  c.data = ConfigDict(  # data.pipeline.open_source
    {
      'source': 'synthetic',
      'size': 32,
      'frames': 80,
      'fps': 16.0,
      'crop': 'center',
      'shorter_side': 0,  # to which clips are resized; 0 is `size`.  Smaller clips are refused
      'min_side': 0,  # or left out: clips of a dataset with a shorter side below this
    }
  )
  # data.masks.Masked: how often which part of a clip is given, in the stage that is given any.
  c.masks = ConfigDict()
  # data.pictures.Picture, and the rank of adapters, in the stage of a style.
  c.style = ConfigDict()
  # ssr.degrade.make_degrade, in stages of super-resolution: the others are told nothing but a text.
  c.degrade = ConfigDict()
  c.residual = False  # there, whether the network adds to the upsampled frames: ssr.model
  c.loader = ConfigDict({'batch': 8, 'workers': 0})  # data.pipeline.batches

  c.optim = ConfigDict(  # training.optimizer.make_optimizer
    {
      'name': 'adamw',
      'learning_rate': 1e-4,
      'warmup': 100,
      'decay': 'constant',
      'clip': 1.0,
      'weight_decay': 0.0,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-8,
    }
  )
  c.ema_decay = 0.9999  # after a warm-up that suits the number of steps: training.average
  c.drop_text = 0.1  # Imagen, Sec. 2.2
  c.accumulate = 1  # microbatches a step, each of which divides over the mesh
  c.high_noise = 1.0  # times are drawn from Beta(high_noise, 1): 1 is uniform, more is noisier

  c.sampling = ConfigDict(  # pipelines.text_to_video.make_text_to_video, or cascade's
    {'sampler': 'dpmpp_2m', 'steps': 25, 'guidance': 3.0, 'spacing': 'even_angles'}
  )

  # What happens how often, in steps; 0 is only at the end.
  c.log_every = 10
  c.evaluate_every = 100
  c.evaluate_batch = 8  # clips at once, on any mesh; for moving shapes and a style in all
  # How many clips of a dataset in all, or all of the split where it has fewer: of its split
  # `validation`, or where there is none of what is trained on, as the metric's name says.
  c.evaluate_clips = 64
  c.evaluate_times = 8
  c.sample_every = 500
  c.sample_prompts = (
    'a red circle moving right on a black background',
    'a white square spinning on a navy background',
  )
  # evaluation.in_training.make_scoring: scores of videos by the averaged parameters.
  c.score_every = 0
  c.scores = ConfigDict(
    {
      'metrics': (),  # names of evaluation.scores.METRICS; none is no scores
      'videos': 16,
      'prompts': '',  # a file; '' is sample_prompts
      'frames': 0,  # what follows: evaluation.scores.Settings
      'fps': 0.0,
      'stride': 1,
      'windows': 'first',
      'reference': '',
      'reference_count': 0,
      'i3d': '',
      'c3d': '',
      'clip': '',
      'clip_network': 'clip_b32',
      'vocabulary': '',
      'splits': 1,
      'batch': 8,
    }
  )
  c.save_every = 500
  # Of all checkpoints the last so many stay, those of every so many steps, and those of the lowest
  # evaluation losses, where it was evaluated when they were saved.
  c.keep = 3
  c.keep_every = 0
  c.keep_best = 0
  c.stop_on_failed_save = False

  # training.trackers.open_tracker: where metrics and videos are shown besides TensorBoard.
  c.tracker = ConfigDict(
    {
      'name': '',  # 'wandb' or 'trackio'; '' is neither
      'project': 'lumiere',
      'run': '',  # the name that is shown; '' is that of the workdir
    }
  )

  # training.guard: updates left out, for a loss so many times the usual (0 is never; one that is
  # not finite always is), and how many of them in a row end the run.
  c.guard = ConfigDict({'spike': 0.0, 'abort_after': 10})
  # training.phases: the most seconds of each phase before the run is taken to hang, 0 for no limit.
  c.watchdog = ConfigDict(
    {
      'start': 1800.0,
      'restore': 3600.0,
      'compile': 7200.0,
      'data': 600.0,
      'step': 1800.0,
      'evaluate': 3600.0,
      'sample': 7200.0,
      'score': 7200.0,
      'save': 3600.0,
      'close': 600.0,
    }
  )
  return c


def super_resolution(c: ConfigDict) -> ConfigDict:
  """The config with what its stages share: pipelines.cascade.make_super_resolution samples them."""
  c.model.noise_level_embedding = True
  c.model.resample = 'conv'  # the Efficient U-Net's order: downsample first, upsample last
  c.degrade.update({'factor': 4, 'level': 0.5, 'blur': 0.5})
  c.sampling.update({'guidance': 1.0, 'window': 8, 'overlap': 2, 'at_once': 1, 'aug_level': 0.1})
  c.data.update({'crop': 'random', 'frames': 8})
  return c
