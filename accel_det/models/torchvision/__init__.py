"""The box detectors of torchvision, with losses that are exact over processes."""
