"""The names and the layouts of published weights of feature networks."""

from evaluation.features.weights import Naming

_TORCH_CONV = (r'.*/kernel', 'o i t h w -> t h w i o')
_TORCH_DENSE = (r'.*/kernel', 'o i -> i o')
_BATCH_COUNTS = r'.*\.num_batches_tracked'

I3D = (
  Naming(
    'pytorch-i3d of piergiaj',  # VideoGPT and TATS use a file with these names
    names=(
      (r'^conv1a/', 'Conv3d_1a_7x7/'),
      (r'^conv2b/', 'Conv3d_2b_1x1/'),
      (r'^conv2c/', 'Conv3d_2c_3x3/'),
      (r'^mixed', 'Mixed_'),
      (r'/b3/', '/b3b/'),
      (r'/kernel$', '/conv3d/weight'),
      (r'logits/bias$', 'logits/conv3d/bias'),
      (r'(?<!conv3d)/bias$', '/bn/bias'),
      (r'/scale$', '/bn/weight'),
      (r'/mean$', '/bn/running_mean'),
      (r'/var$', '/bn/running_var'),
      (r'/', '.'),
    ),
    layouts=((r'logits/kernel', 'o i 1 1 1 -> i o'), _TORCH_CONV),
    ignored=(_BATCH_COUNTS,),
  ),
  Naming(
    'kinetics_i3d_pytorch of hassony2',  # StyleGAN-V uses a TorchScript with these names
    names=(
      (r'^conv1a/', 'conv3d_1a_7x7/'),
      (r'^conv2b/', 'conv3d_2b_1x1/'),
      (r'^conv2c/', 'conv3d_2c_3x3/'),
      (r'^logits/', 'conv3d_0c_1x1/'),
      (r'^mixed', 'mixed_'),
      (r'/b0/', '/branch_0/'),
      (r'/b(\d)a/', r'/branch_\1/0/'),
      (r'/b(\d)b/', r'/branch_\1/1/'),
      (r'/b3/', '/branch_3/1/'),
      (r'/kernel$', '/conv3d/weight'),
      (r'0c_1x1/bias$', '0c_1x1/conv3d/bias'),
      (r'(?<!conv3d)/bias$', '/batch3d/bias'),
      (r'/scale$', '/batch3d/weight'),
      (r'/mean$', '/batch3d/running_mean'),
      (r'/var$', '/batch3d/running_var'),
      (r'/', '.'),
    ),
    layouts=((r'logits/kernel', 'o i 1 1 1 -> i o'), _TORCH_CONV),
    ignored=(_BATCH_COUNTS,),
  ),
  Naming(
    'kinetics-i3d of DeepMind',
    names=(
      (r'^conv1a/', 'Conv3d_1a_7x7/'),
      (r'^conv2b/', 'Conv3d_2b_1x1/'),
      (r'^conv2c/', 'Conv3d_2c_3x3/'),
      (r'^logits/', 'Logits/Conv3d_0c_1x1/'),
      (r'^mixed5b/b2b/', 'mixed5b/Branch_2/Conv3d_0a_3x3/'),  # this name is misspelt there
      (r'^mixed', 'Mixed_'),
      (r'/b3/', '/Branch_3/Conv3d_0b_1x1/'),
      (r'/b(\d)a?/', r'/Branch_\1/Conv3d_0a_1x1/'),
      (r'/b(\d)b/', r'/Branch_\1/Conv3d_0b_3x3/'),
      (r'/kernel$', '/conv_3d/w'),
      (r'0c_1x1/bias$', '0c_1x1/conv_3d/b'),
      (r'/bias$', '/batch_norm/beta'),
      (r'/mean$', '/batch_norm/moving_mean'),
      (r'/var$', '/batch_norm/moving_variance'),
      (r'^', 'RGB/inception_i3d/'),
    ),
    layouts=(
      (r'logits/kernel', '1 1 1 i o -> i o'),
      (r'(?!logits/).*/(bias|mean|var)', '1 1 1 1 o -> o'),
    ),
    ones=(r'.*/scale',),
  ),
)

# Both come from Caffe: channels are in the order blue, green, red, and fc6 takes features with
# channels first.
_MEAN = (r'mean', 'c t h w -> t h w c')  # 16 frames of 128 x 171
C3D = (
  Naming(
    'c3d-pytorch of DavideA',
    names=(
      (r'^conv([12])a/', r'conv\1/'),
      (r'/kernel$', '/weight'),
      (r'/', '.'),
    ),
    layouts=((r'conv.*/kernel', 'o i t h w -> t h w i o'), _TORCH_DENSE, _MEAN),
  ),
  Naming(
    "TGAN's network for chainer",
    names=((r'/kernel$', '/W'), (r'/bias$', '/b')),
    layouts=((r'conv.*/kernel', 'o i t h w -> t h w i o'), _TORCH_DENSE, _MEAN),
  ),
)

CLIP = (
  Naming(
    'CLIPModel of transformers',
    names=(
      (r'^log_scale$', 'logit_scale'),
      (r'^image/project/', 'visual_projection/'),
      (r'^text/project/', 'text_projection/'),
      (r'^image/', 'vision_model/'),
      (r'^text/', 'text_model/'),
      (r'/class_embedding$', '/embeddings/class_embedding'),
      (r'/(position|token)/embedding$', r'/embeddings/\1_embedding/weight'),
      (r'/patch/', '/embeddings/patch_embedding/'),
      (r'/norm_in/', '/pre_layrnorm/'),  # this name is misspelt there
      (r'vision_model/norm_out/', 'vision_model/post_layernorm/'),
      (r'text_model/norm_out/', 'text_model/final_layer_norm/'),
      (r'/layer(\d+)/', r'/encoder/layers/\1/'),
      (r'/norm_attention/', '/layer_norm1/'),
      (r'/norm_dense/', '/layer_norm2/'),
      (r'/qkv/', '/self_attn/{q,k,v}_proj/'),
      (r'/out/', '/self_attn/out_proj/'),
      (r'/wide/', '/mlp/fc1/'),
      (r'/narrow/', '/mlp/fc2/'),
      (r'/(kernel|scale)$', '/weight'),
      (r'/', '.'),
    ),
    layouts=((r'.*/patch/kernel', 'o i h w -> h w i o'), _TORCH_DENSE),
    ignored=(r'.*\.position_ids',),
  ),
  Naming(
    "OpenAI's CLIP",
    names=(
      (r'^log_scale$', 'logit_scale'),
      (r'^text/project/kernel$', 'text_projection'),
      (r'^image/project/kernel$', 'visual/proj'),
      (r'^image/', 'visual/'),
      (r'^text/', ''),
      (r'position/embedding$', 'positional_embedding'),
      (r'token/embedding$', 'token_embedding/weight'),
      (r'/patch/', '/conv1/'),
      (r'/norm_in/', '/ln_pre/'),
      (r'visual/norm_out/', 'visual/ln_post/'),
      (r'^norm_out/', 'ln_final/'),
      (r'layer(\d+)/', r'transformer/resblocks/\1/'),
      (r'/norm_attention/', '/ln_1/'),
      (r'/norm_dense/', '/ln_2/'),
      (r'/qkv/kernel$', '/attn/in_proj_weight'),
      (r'/qkv/bias$', '/attn/in_proj_bias'),
      (r'/out/', '/attn/out_proj/'),
      (r'/wide/', '/mlp/c_fc/'),
      (r'/narrow/', '/mlp/c_proj/'),
      (r'/(kernel|scale)$', '/weight'),
      (r'/', '.'),
    ),
    layouts=(
      (r'.*/patch/kernel', 'o i h w -> h w i o'),
      (r'.*/project/kernel', 'i o -> i o'),
      _TORCH_DENSE,
    ),
    ignored=('context_length', 'input_resolution', 'vocab_size'),
  ),
)
