"""Networks of Impasto: the style trunk, the upscalers, the loss network, and the card each checkpoint carries."""
