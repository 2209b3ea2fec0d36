"""Still images: reading them, in one way for both packages."""
