"""Networks of clips and of images."""
