// kernels of the network family
