"""What is measured of images, latents and models, and how sure is a number?"""
