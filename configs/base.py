"""The keys of every config, with their defaults.

The file of a stage (`t2i.py`, `t2v.py`, ...) overrides some of them, and each of its scales more.
Any key can be overridden on the command line: `--config.loader.batch=16`.

A group of keys is the keyword arguments of one function, which is named beside the group, so that
a misspelt key is an error before anything is compiled.  `training/ranges.py` has the allowed
ranges of numbers.
"""

from ml_collections import ConfigDict, FieldReference

# Names of parameters, as regular expressions that match a whole name.  `stunet/inflate.py` and
# `stunet/adapters.py` define what these names are.
TEMPORAL = (r'(.*/)?temporal[^/]*/.*',)
ADAPTERS = (r'(.*/)?adapter/.*',)
ALL_BUT_TEACHER = (r'(?!teacher/).*',)


def get_config() -> ConfigDict:
  """The defaults of all keys."""
  c = ConfigDict()
  c.stage = ''  # the name of the stage, which its file sets
  c.init_from = ''  # the workdir of the model to start from; '' starts from random parameters
  c.trainable = ('.*',)  # which parameters are trained, by name; the others are frozen
  c.seed = 0  # of initialisation, data order and noise
  c.steps = 1000  # the number of updates of the parameters

  # core.sharding.make_mesh: the number of devices along each axis; -1 is all that are left.  `data`
  # splits the batch, `fsdp` splits the batch and the parameters, and `time` splits clips.
  c.mesh = (('data', -1), ('fsdp', 1))
  c.shard_above = 2**18  # parameters with fewer numbers than this are not split over `fsdp`

  c.model = ConfigDict(  # stunet.unet.STUNet, which has the meaning and the defaults of other keys
    {
      'dtype': 'float32',  # of convolutions and products, or 'bfloat16'; parameters are float32
      'remat': False,  # recompute activations in the backward pass: less memory, more time
    }
  )
  c.schedule = ConfigDict(  # diffusion.process.Process
    {
      # Or 'linear', 'discrete_cosine', 'scaled_linear' or 'scaled_linear_zero_snr'.
      'schedule': 'cosine',
      'shift': 0.0,  # added to the log-SNR; below zero, there is more noise at every time
      'prediction': 'v',  # what the network predicts: 'v', 'x0' or 'eps'
    }
  )
  c.text = ConfigDict(  # text.encoder.open_encoder
    {
      'source': 'hashed',  # a fixed random vector for each word, or the folder of a converted T5
      'tokens': 16,  # the length of every text in tokens: shorter ones are padded, longer ones cut
      'width': 64,  # the number of features of a token
      'dtype': 'float32',  # in which T5 computes, and in which embeddings are cached
      'stored_dtype': '',  # to which T5's embeddings are rounded, as text.embed does; '' is dtype
      'cache': '',  # a folder for the embeddings of captions by T5; '' is no cache
      'mask_padding': False,  # whether attention leaves out padding; `hashed` always does
    }
  )
  c.data = ConfigDict(  # data.mixture.open_sources
    {
      # Moving shapes, the folder of a dataset that data.builder wrote, or a dataset of TFDS by its
      # name, as 'tfds:ucf101'.
      'source': 'synthetic',
      # Several sources with weights, as (('runs/clips', 0.7), ('runs/images', 0.3)); () is none.
      'mixture': (),
      # The height and the width of a frame in pixels, as (72, 128), or the side of a square.  The
      # type `object` allows both.
      'size': FieldReference(32, field_type=object),
      'frames': 80,  # in a clip
      # Shapes (frames, height, width) of the clips to train on, in place of `frames` and `size`,
      # which are then those of samples; every batch has one of them.  () is none.
      'buckets': (),
      'fps': 16.0,  # frames per second
      'crop': 'center',  # or 'random': which part of a frame is used
      # Clips are resized until they cover a frame of the shape of `size` whose shorter side has so
      # many pixels, and are then cropped; 0 is the shorter side of `size`.
      'shorter_side': 0,
      # Clips of a dataset that cannot cover a frame of that shape whose shorter side has so many
      # pixels are left out.
      'min_side': 0,
      # The caption of clips of TFDS that have a label alone, as 'a video of {label}'; '' is its
      # words.
      'caption_template': '',
    }
  )
  c.loader = ConfigDict(  # data.pipeline.batches
    {
      'batch': 8,  # clips in a batch, over all devices and processes together
      # Processes that decode ahead: 0 decodes in threads of the training process, and -1 starts as
      # many as steps need, up to one for each core.
      'workers': 0,
    }
  )
  c.masks = ConfigDict()  # data.masks.Masked, in stage t2v_masked alone
  c.style = ConfigDict()  # the picture and the rank of adapters, in stage style alone
  c.degrade = ConfigDict()  # ssr.degrade.make_degrade, in super-resolution alone
  c.distill = ConfigDict()  # its stage, steps and guidance, in stage distill alone
  c.residual = False  # in super-resolution: whether the network predicts x0 - the upsampled frames

  c.optim = ConfigDict(  # training.optimizer.make_optimizer
    {
      'name': 'adamw',  # or 'adafactor', which ignores b1, b2 and eps, or 'muon'
      'learning_rate': 1e-4,  # after the warm-up
      'warmup': 100,  # steps over which the rate rises linearly from 0
      'decay': 'constant',  # the rate after the warm-up; 'cosine' and 'wsd' end at 0
      'clip': 1.0,  # the largest global norm of gradients
      'weight_decay': 0.0,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-8,
    }
  )
  # Evaluation, samples and exports use a moving average of the parameters.  Its decay rises to this
  # in the first tenth of a run: training.average.
  c.ema_decay = 0.9999
  c.drop_text = 0.1  # the share of captions that are replaced by the empty text: Imagen, Sec. 2.2
  c.accumulate = 1  # the number of microbatches of a step; less memory, more time
  # diffusion.loss.times: the distribution of the times of training.
  c.high_noise = 1.0  # times are drawn from Beta(high_noise, 1): 1 is uniform, above 1 noisier
  c.log_snr = ConfigDict(  # with a `std`, the log-SNR is normal instead
    {
      'mean': 0.0,
      'std': 0.0,
    }
  )
  # diffusion.loss.less_noisy: half of the inputs have less noise than at the time on which the
  # network is conditioned, by up to this difference of log-SNRs.  It is for an image model that is
  # to become a video model.
  c.less_noisy = 0.0
  c.loss = ConfigDict(  # diffusion.loss.weights
    {
      'error': '',  # whose squared error is the loss: 'x0', 'v' or 'eps'; '' is the prediction's
      'largest': 0.0,  # the largest weight of an error of x0; 0 is no limit
    }
  )

  # pipelines.text_to_video.make_text_to_video; in super-resolution
  # pipelines.cascade.make_super_resolution.
  c.sampling = ConfigDict(
    {
      'sampler': 'dpmpp_2m',  # one of SAMPLERS in diffusion/sampling.py
      'steps': 25,
      'guidance': 3.0,  # the scale of classifier-free guidance; 1 is none
      'spacing': 'even_angles',  # of the steps in time, one of SPACINGS in diffusion/sampling.py
    }
  )

  # Every `*_every` is a number of steps; 0 is only at the end of the run.
  c.log_every = 10
  c.evaluate_every = 100
  # Clips that are evaluated at once, over all devices.  Moving shapes and a style are evaluated on
  # this many clips in all.
  c.evaluate_batch = 8
  c.evaluate_clips = 64  # the most clips of a dataset that are evaluated, see training.md
  c.evaluate_times = 8  # the number of noise levels at which each clip is evaluated
  c.sample_every = 500
  c.sample_prompts = (
    'a red circle moving right on a black background',
    'a white square spinning on a navy background',
  )
  c.score_every = 0
  # evaluation.in_training.make_scoring: scores of videos that the averaged parameters make.
  c.scores = ConfigDict(
    {
      'metrics': (),  # names of METRICS in evaluation/scores.py; () is no scores
      'videos': 16,  # the number of videos that are scored
      'prompts': '',  # a file of prompts; '' is sample_prompts
      # The other keys are evaluation.scores.Settings.
      'frames': 0,  # of a scored clip; 0 is what the metric takes
      'fps': 0.0,  # at which videos are resampled; 0 keeps them as they are
      'stride': 1,  # every n-th frame is read
      'windows': 'first',  # which clips of a video are scored: the first, or 'all'
      'reference': '',  # the folder of real videos of FVD
      'reference_count': 0,  # the number of clips that are drawn from them; 0 is all
      'i3d': '',  # a file of weights of I3D, for FVD
      'c3d': '',  # a file of weights of C3D, for the inception score
      'clip': '',  # a file or folder of weights of CLIP, for the CLIP score
      'clip_network': 'clip_b32',  # or 'clip_l14'
      'vocabulary': '',  # the file of CLIP's vocabulary
      'splits': 1,  # of the inception score
      'batch': 8,  # clips that a feature network reads at once
    }
  )
  c.save_every = 500
  # The last `keep` checkpoints are kept.  So are those of every `keep_every` steps, and the
  # `keep_best` with the lowest evaluation loss; 0 keeps none for that reason.
  c.keep = 3
  c.keep_every = 0
  c.keep_best = 0
  c.stop_on_failed_save = False  # whether a checkpoint that cannot be written ends the run

  # training.trackers.open_tracker: where metrics and videos are shown besides TensorBoard.
  c.tracker = ConfigDict(
    {
      'name': '',  # 'wandb' or 'trackio'; '' is neither
      'project': 'lumiere',
      'run': '',  # the name that is shown; '' is that of the workdir
    }
  )

  # training.guard: an update is left out if its loss or gradient is not finite.
  c.guard = ConfigDict(
    {
      'spike': 0.0,  # also if its loss is this many times the usual loss; 0 is never
      'abort_after': 10,  # updates that are left out in a row end the run
    }
  )
  # training.phases: the most seconds that a phase may take.  A run that takes longer is stuck: it
  # ends with status 75, so that a scheduler starts it again.  0 is no limit.
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
  """The config with what both stages of super-resolution share."""
  c.model.noise_level_embedding = True  # the network embeds the noise level: see ssr.degrade
  c.model.resample = 'conv'  # downsample before the units, upsample after: Efficient U-Net
  c.degrade.update(  # ssr.degrade.make_degrade: how training makes low-resolution frames
    {
      'factor': 4,  # how many times smaller the sides of a low-resolution frame are
      'level': 0.5,  # the highest noise level in training, from 0 to 1; drawn uniformly
      'blur': 0.5,  # the largest standard deviation of their blur, in pixels; drawn uniformly
    }
  )
  c.sampling.update(  # pipelines.cascade.make_super_resolution
    {
      'guidance': 1.0,
      'window': 8,  # frames that are denoised together
      'overlap': 2,  # frames that a window shares with the next one
      'at_once': 1,  # windows that a device denoises at once
      'aug_level': 0.1,  # the noise level in sampling, from 0 to 1
    }
  )
  c.data.update({'crop': 'random', 'frames': 8})
  return c
