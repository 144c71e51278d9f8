import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_compilation_cache_dir', '.jax_cache')
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
