"""What can go wrong in training, each with a sentence that says what to do. The command line prints it and ends."""


class TrainingError(Exception):
    """Base of all errors that a person who trains can mend."""


class PhotosError(TrainingError):
    """The folder of photos is missing, empty, or holds no picture that can be read."""


class StyleImageError(TrainingError):
    """A style image is missing or cannot be read."""


class LossWeightsError(TrainingError):
    """VGG-16's or LPIPS's weights could not be loaded or downloaded."""


class CheckpointError(TrainingError):
    """A checkpoint or zoo file is missing, damaged, cannot be written, or belongs to another run."""


class ConfigError(TrainingError):
    """A setting of the run makes no sense."""


class DeviceMemoryError(TrainingError):
    """A step needs more memory than the device has."""
