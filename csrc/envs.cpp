// kernels of the envs family
