"""What the study says: claims as hypotheses, each with an effect, an interval and a verdict."""
