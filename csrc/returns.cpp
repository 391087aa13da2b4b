// kernels of the returns family
