// kernels of the distributions family
