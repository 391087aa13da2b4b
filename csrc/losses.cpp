// kernels of the losses family
