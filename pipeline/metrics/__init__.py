"""What is measured of images, latents and models: arrays in, numbers with their spread out."""
