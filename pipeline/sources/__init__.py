"""Where do images come from? CIFAR-10, a user's own folder or archive, or shapes drawn on the spot."""
