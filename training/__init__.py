"""Trains the networks with the perceptual loss: `python -m training.fit`."""
