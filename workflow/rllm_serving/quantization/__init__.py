"""Weight quantization: calibration texts, making a checkpoint, and the checks before it is served."""
