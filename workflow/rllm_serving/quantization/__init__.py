"""Weight quantization: the methods, how their checkpoints are made, and how they are checked before they are served."""
