"""Tests of the networks, their cards and the loss network."""
